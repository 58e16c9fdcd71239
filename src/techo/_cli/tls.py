"""TLS: from files to contexts, with errors that name the file at fault."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from techo._cli.options import flag, setter
from techo._printable import quoted
from techo.endpoint import SECURE, Endpoint, check_connectable

if TYPE_CHECKING:
    import ssl


def server_context(
    options: argparse.Namespace, endpoints: Sequence[Endpoint]
) -> ssl.SSLContext | None:
    """Return the context that serve's options describe; None if no endpoint is tls.

    Raises:
        ValueError: an option is given that does not apply, or its file cannot be used.
    """
    passed = [each.descriptor for each in endpoints if each.descriptor is not None]
    hint = f"; tls+fd:{passed[0]} is the socket that was passed, over TLS" if passed else ""
    if not wanted(options, endpoints, hint):
        return None
    import ssl

    context = _context(ssl.Purpose.CLIENT_AUTH, options, "tls_client_ca")
    _load_certificate(context, options)
    if options.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def wanted(options: argparse.Namespace, endpoints: Iterable[Endpoint], hint: str = "") -> bool:
    """Return whether an endpoint is tls; only the environment may have options if none is."""
    if any(each.kind in SECURE for each in endpoints):
        return True
    for name in options.given:
        if name.startswith("tls_"):
            raise ValueError(f"{flag(name)} is for tls endpoints; there is none{hint}")
    return False


def client_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context that a client's options describe; None if the endpoint is not tls.

    Raises:
        ValueError: the endpoint is for servers, an option is given that does not apply, or its
            file cannot be used.
    """
    check_connectable(options.endpoint, None, None, pinging=True)  # or a command refuses it
    return trusting(options) if wanted(options, [options.endpoint]) else None


def trusting(options: argparse.Namespace) -> ssl.SSLContext:
    """Return the context that a client's options describe, of a tls endpoint.

    Raises:
        ValueError: a file cannot be used.
    """
    import ssl

    context = _context(ssl.Purpose.SERVER_AUTH, options, "tls_ca")
    if options.tls_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.tls_cert is not None or options.tls_key is not None:
        _load_certificate(context, options)
    return context


def _load_certificate(context: ssl.SSLContext, options: argparse.Namespace) -> None:
    import ssl

    cert, key = options.tls_cert, options.tls_key
    if cert is None:
        raise ValueError("a certificate is missing: give --tls-cert FILE, and --tls-key FILE")
    _check_readable(options, "tls_cert")
    if key is not None:
        _check_readable(options, "tls_key")
    shown_cert = f"{setter(options, 'tls_cert')} {quoted(cert)}"
    shown_key = f"{setter(options, 'tls_key')} {quoted(key or cert)}"
    try:
        # With a password of ours, or OpenSSL would ask the terminal for one.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{shown_key} does not belong to {shown_cert}") from None
        if key is None and "PRIVATE KEY-----" not in Path(cert).read_text("ascii", "replace"):
            raise ValueError(f"{shown_cert} has no key in it: give --tls-key FILE") from None
        wrong = shown_cert if key is None else f"{shown_cert} or {shown_key}"
        raise ValueError(
            f"{wrong} is no PEM file that can be used without a password"
        ) from None


def _context(
    purpose: ssl.Purpose, options: argparse.Namespace, authority: str
) -> ssl.SSLContext:
    """Return a context that trusts the option `authority`, or what the system trusts."""
    import ssl

    path = getattr(options, authority)
    if path is not None:
        _check_readable(options, authority)
    try:
        return ssl.create_default_context(purpose, cafile=path)
    except ssl.SSLError:
        raise ValueError(
            f"{setter(options, authority)} {quoted(path)} has no certificate in it (PEM)"
        ) from None


def _check_readable(options: argparse.Namespace, name: str) -> None:
    path = getattr(options, name)
    # Not by opening it: a pipe, such as a shell's <(...), can be read only once.
    wrong = None if os.access(path, os.R_OK) else errno.EACCES
    if not os.path.exists(path):  # noqa: PTH110  -- a text: Path("") would be this folder
        wrong = errno.ENOENT
    elif os.path.isdir(path):  # noqa: PTH112  -- likewise
        wrong = errno.EISDIR
    if wrong is not None:
        raise ValueError(
            f"cannot read {setter(options, name)} {quoted(path)}: {os.strerror(wrong)}"
        )
