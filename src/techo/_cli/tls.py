"""TLS: from files to contexts, with errors that say which file is at fault."""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

from techo.endpoint import Kind


def server_context(cert: str | None, key: str | None, client_ca: str | None) -> ssl.SSLContext:
    """Make the context of a server that shows `cert` and, given `client_ca`, asks for one too.

    Raises:
        ValueError: a file is missing, unreadable or of no use; the text names it.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_certificate(context, cert, key)
    if client_ca is not None:
        _load_authority(context, "--tls-client-ca", client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(options: argparse.Namespace) -> ssl.SSLContext | None:
    """Make what talk's options say about TLS; None for an endpoint that is not tls.

    Raises:
        ValueError: an option is given that does not fit, or its file is of no use.
    """
    if options.endpoint.kind is not Kind.TLS:
        for name in options.given:
            if name.startswith("tls_"):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} is for tls endpoints; {options.endpoint} is none")
        return None
    context = ssl.create_default_context()
    if options.tls_ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody yet
        _load_authority(context, "--tls-ca", options.tls_ca)
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
                f"--tls-key {key!r} does not belong to --tls-cert {cert!r}"
            ) from None
        if key is None and "PRIVATE KEY-----" not in _text(cert):
            raise ValueError(
                f"--tls-cert {cert!r} has no key in it: give --tls-key FILE"
            ) from None
        wrong = f"--tls-cert {cert!r}" + ("" if key is None else f" or --tls-key {key!r}")
        raise ValueError(
            f"{wrong} is no PEM file that can be used without a password"
        ) from None


def _load_authority(context: ssl.SSLContext, option: str, path: str) -> None:
    _check_readable(option, path)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"{option} {path!r} has no certificate in it (PEM)") from None


def _check_readable(option: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot read {option} {path!r}: {error.strerror}") from None


def _text(path: str) -> str:
    return Path(path).read_text("ascii", "replace")
