"""TLS: from files to contexts, with errors that name the file at fault."""

from __future__ import annotations

import argparse
import errno
import os
import ssl
from collections.abc import Iterable
from pathlib import Path

from techo._cli.options import flag
from techo._validation import quoted
from techo.endpoint import Endpoint, Kind


def server_context(
    options: argparse.Namespace, endpoints: Iterable[Endpoint]
) -> ssl.SSLContext | None:
    """Return the context that serve's options describe; None if no endpoint is tls.

    Raises:
        ValueError: an option is given that does not apply, or its file cannot be used.
    """
    if not _wanted(options, endpoints):
        return None
    context = _context(ssl.Purpose.CLIENT_AUTH, "--tls-client-ca", options.tls_client_ca)
    _load_certificate(context, options.tls_cert, options.tls_key)
    if options.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _wanted(options: argparse.Namespace, endpoints: Iterable[Endpoint]) -> bool:
    """Return whether an endpoint is tls; only the environment may have options if none is."""
    if any(each.kind is Kind.TLS for each in endpoints):
        return True
    for name in options.given:
        if name.startswith("tls_"):
            raise ValueError(f"{flag(name)} is for tls endpoints; there is none")
    return False


def client_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Return the context that a client's options describe; None if the endpoint is not tls.

    Raises:
        ValueError: an option is given that does not apply, or its file cannot be used.
    """
    if not _wanted(options, [options.endpoint]):
        return None
    context = _context(ssl.Purpose.SERVER_AUTH, "--tls-ca", options.tls_ca)
    if options.tls_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.tls_cert is not None or options.tls_key is not None:
        _load_certificate(context, options.tls_cert, options.tls_key)
    return context


def _load_certificate(context: ssl.SSLContext, cert: str | None, key: str | None) -> None:
    if cert is None:
        raise ValueError("a certificate is missing: give --tls-cert FILE, and --tls-key FILE")
    _check_readable("--tls-cert", cert)
    if key is not None:
        _check_readable("--tls-key", key)
    try:
        # With a password of ours, or OpenSSL would ask the terminal for one.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(
                f"--tls-key {quoted(key or cert)} does not belong to --tls-cert {quoted(cert)}"
            ) from None
        if key is None and "PRIVATE KEY-----" not in Path(cert).read_text("ascii", "replace"):
            raise ValueError(
                f"--tls-cert {quoted(cert)} has no key in it: give --tls-key FILE"
            ) from None
        wrong = f"--tls-cert {quoted(cert)}" + (
            "" if key is None else f" or --tls-key {quoted(key)}"
        )
        raise ValueError(
            f"{wrong} is no PEM file that can be used without a password"
        ) from None


def _context(purpose: ssl.Purpose, option: str, authority: str | None) -> ssl.SSLContext:
    """Return a context that trusts `authority`, or what the system trusts if it is None."""
    if authority is not None:
        _check_readable(option, authority)
    try:
        return ssl.create_default_context(purpose, cafile=authority)
    except ssl.SSLError:
        raise ValueError(
            f"{option} {quoted(authority)} has no certificate in it (PEM)"
        ) from None


def _check_readable(option: str, path: str) -> None:
    # Not by opening it: a pipe, such as a shell's <(...), can be read only once.
    wrong = None if os.access(path, os.R_OK) else errno.EACCES
    if not os.path.exists(path):  # noqa: PTH110  -- a text: Path("") would be this folder
        wrong = errno.ENOENT
    elif os.path.isdir(path):  # noqa: PTH112  -- likewise
        wrong = errno.EISDIR
    if wrong is not None:
        raise ValueError(f"cannot read {option} {quoted(path)}: {os.strerror(wrong)}")
