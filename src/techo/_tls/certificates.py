"""Certificates: when they end, whether they were verified or not. No I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_FORMATS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""UTCTime and GeneralizedTime, as RFC 5280, 4.1.2.5, allows them."""
_VALIDITY: Final = 3
"""Its place in a certificate without its version: behind number, signature and issuer."""
_PIVOT: Final = 2050
"""UTCTime has years before it (RFC 5280, 4.1.2.5.1); `strptime` takes them up to 2068."""
_LONG: Final = 0x80
_DAY: Final = 86_400
"""Seconds."""


def end_of(certificate: bytes) -> float | None:
    """Return until when a certificate in DER is valid, in Unix time; None if it has no end.

    OpenSSL reads only what it has verified for Python, and an expired one it has not.
    """
    try:
        ((_, outer),) = _elements(certificate)
        _, whole = next(_elements(outer))
        fields = [each for each in _elements(whole) if each[0] != _VERSION]
        tag, validity = fields[_VALIDITY]
        if tag != _SEQUENCE:
            return None
        (_, (kind, text)) = _elements(validity)
        moment = dt.datetime.strptime(text.decode("ascii"), _FORMATS[kind])  # noqa: DTZ007  -- see below
    except (ValueError, IndexError, KeyError, StopIteration):
        return None
    if kind == _UTC_TIME and moment.year >= _PIVOT:
        moment = moment.replace(year=moment.year - 100)
    return moment.replace(tzinfo=dt.UTC).timestamp()


def days_until(end: float | None, at: float) -> float | None:
    """Return how many days are left at a Unix time, below 0 if it is over; None without one."""
    return None if end is None else (end - at) / _DAY


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each element (X.690, 8.1)."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size >= _LONG:
            more = size - _LONG
            size, at = int.from_bytes(data[at : at + more]), at + more
        if at + size > len(data):
            raise ValueError("an element is cut")
        yield tag, data[at : at + size]
        at += size
