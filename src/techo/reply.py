"""Replies: what to send back for a chunk, and how to recognise a stamp in what came back."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from typing import Final, TypeAlias

Reply: TypeAlias = Callable[[bytes], bytes]
"""Takes a chunk as it was received and returns what to send back, which may be empty."""


def raw(chunk: bytes) -> bytes:
    """Reply with the same bytes (RFC 862)."""
    return chunk


def stamped(chunk: bytes) -> bytes:
    """Reply with ``[`` + `time.ctime` + ``] `` before the bytes, as the tutorial's server does.

    The stamp is the wall clock's second; it is for people, never for measuring.
    """
    return _stamp(int(time.time())) + chunk


# ctime costs more than all the rest of a small reply, and changes once a second.
@functools.lru_cache(maxsize=1)
def _stamp(second: int) -> bytes:
    return f"[{time.ctime(second)}] ".encode("ascii")


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STAMP: Final = re.compile(
    rf"\[((?:{'|'.join(_DAYS)}) (?:{'|'.join(_MONTHS)}) "
    r"[ 123][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9] [0-9]{4})\] ".encode()
)
STAMP_LENGTH: Final = len("[Sun Nov 22 06:15:00 2026] ")
"""Bytes in a stamp, brackets and the space behind them included."""

_DIGIT = "0123456789"
_COLUMNS = (
    *(
        "[",
        *map("".join, zip(*_DAYS, strict=True)),
        " ",
        *map("".join, zip(*_MONTHS, strict=True)),
    ),
    *(" ", " 123", _DIGIT, " ", "012", _DIGIT, ":", "012345", _DIGIT, ":", "0123456", _DIGIT),
    *(" ", _DIGIT, _DIGIT, _DIGIT, _DIGIT, "]", " "),
)
_ALLOWED: Final = tuple(frozenset(column.encode()) for column in _COLUMNS)


def stamp_at(data: bytes | bytearray, offset: int) -> str | None:
    """Return the stamp at `offset` in `data`, as ctime writes it, if there is one."""
    found = _STAMP.match(data, offset)
    return None if found is None else found[1].decode("ascii")


def stamps_in(data: bytes | bytearray, first: int, last: int) -> list[int]:
    """Return the offsets, from `first` to `last`, at which stamps begin in `data`."""
    return [found.start() for found in _STAMP.finditer(data, first, last + STAMP_LENGTH)]


def may_become_stamp(tail: bytes | bytearray) -> bool:
    """Return whether `tail`, shorter than a stamp, could be the beginning of one."""
    return len(tail) < STAMP_LENGTH and all(
        byte in allowed for byte, allowed in zip(tail, _ALLOWED, strict=False)
    )
