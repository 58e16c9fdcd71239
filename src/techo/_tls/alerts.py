"""Alerts: what has ended TLS, by the names of RFC 8446, 6.2, for people of both sides."""

from __future__ import annotations

import re
import ssl
from typing import Final

_RECEIVED: Final = re.compile("(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(.+)")
"""OpenSSL's reasons that are the peer's alerts; the version is that which had them first."""

_NAMES: Final = {
    **{each.value: each.name.partition("DESCRIPTION_")[2] for each in ssl.AlertDescription},
    109: "MISSING_EXTENSION",  # those of TLS 1.3, which Python's list lacks
    116: "CERTIFICATE_REQUIRED",
    120: "NO_APPLICATION_PROTOCOL",
}

_ENCRYPTED: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "CERTIFICATE_REQUIRED",
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": "BAD_RECORD_MAC",
    "BAD_SIGNATURE": "DECRYPT_ERROR",
}
"""Alerts that we send encrypted, so that only their reason shows which they are."""

_CERTIFICATE: Final = {
    **dict.fromkeys((2, 18, 19, 20, 21, 22), "UNKNOWN_CA"),
    **dict.fromkeys((9, 28, 62, 63, 64, 66, 67, 68), "BAD_CERTIFICATE"),
    7: "DECRYPT_ERROR",
    10: "CERTIFICATE_EXPIRED",
    23: "CERTIFICATE_REVOKED",
    26: "UNSUPPORTED_CERTIFICATE",
}
"""The same by what X509_verify_cert(3) has found wrong with the peer's certificate."""

_ALERT: Final = 21
"""The type of a record that is an alert (RFC 8446, 5.1)."""


def in_words(error: ssl.SSLError) -> str:
    """Return what has ended TLS: the peer's alert, or what was wrong and the alert sent."""
    if (name := received(error)) is not None:
        return f"received alert {name}"
    if isinstance(error, ssl.SSLEOFError):
        return "the connection ended without close_notify"
    # Who raises it by hand may leave out the rest.
    text = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"bad certificate ({getattr(error, 'verify_message', text).rstrip('.')})"
    else:
        what = _readable(getattr(error, "reason", None) or text)
    return ", ".join([what, *getattr(error, "__notes__", [])])


def received(error: ssl.SSLError) -> str | None:
    """Return the name of the peer's alert; None if it was no alert that has ended TLS."""
    found = _RECEIVED.fullmatch(getattr(error, "reason", None) or "")
    return None if found is None else _readable(found[1])


def note_sent(error: ssl.SSLError, records: bytes) -> None:
    """Note at an error the alert that was made because of it, the last of these records."""
    name = _sent(error, records)
    if name is not None:
        error.add_note(f"sent alert {_readable(name)}")


def _sent(error: ssl.SSLError, records: bytes) -> str | None:
    last = b""
    while len(records) >= 5:  # noqa: PLR2004  -- type, version and length
        size = 5 + int.from_bytes(records[3:5])
        last, records = records[:size], records[size:]
    if last[:1] == bytes([_ALERT]) and len(last) == 7:  # noqa: PLR2004  -- and level, number
        return _NAMES.get(last[6])
    if not last or received(error) is not None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATE.get(error.verify_code)
    return _ENCRYPTED.get(error.reason)


def _readable(name: str) -> str:
    return name.replace("_", " ").lower()
