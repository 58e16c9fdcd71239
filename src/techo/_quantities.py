"""Quantities: how a time, a size, a share and a rate are written and read, the same everywhere.

A number is written as 5, 0.5, .5 or 1e3, and a unit follows it, after a blank or none. Units of
time are lower-case; of those of size only the k may be either. So ``m`` is a minute and never a
size, ``M`` is 1,024 x 1,024 bytes and never a time, and each is refused in the other's place.
"""

from __future__ import annotations

import math
import re
from typing import Final

import attrs

from techo._printable import quoted

_MICRO: Final = ("us", "µs", "μs")
"""The latter two are the micro sign and the Greek letter, which look alike."""

_POWERS: Final = {"ns": -9, **dict.fromkeys(_MICRO, -6), "ms": -3, "s": 0, "": 0}
"""Units of time that are a power of ten of a second."""

_MULTIPLES: Final = {"m": 60, "h": 3600}
"""Units of time that are many seconds."""

_FEW: Final = 120.0
"""Seconds from which on whole minutes are written as such: 90s is clearer than 1.5m, and so is
60s."""

_SIZES: Final = {"": 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30}

_TIMES_MISSPELT: Final = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    "msec": "ms",
    "usec": "us",
    "nsec": "ns",
}
"""What else units of time are called, and what to write instead."""

_NUMBER: Final = re.compile(
    r" *(?=\.?[0-9])([0-9]{0,400})(?:\.([0-9]{1,400}))?(?:[eE]([+-]?[0-9]{1,3}))?"
    r" *((?![0-9.])\S*) *"
)
"""Whole part, part behind the point, power of ten and unit."""

_LONGEST: Final = 40
"""Digits of a size that are taken seriously."""

TIME: Final = "a time, such as 500ms, 2s or 1m"
SIZE: Final = "a size, such as 1000, 64k or 1M"
SIZES: Final = "a range of sizes, such as 1-1400 or 1k-64k/1k"
SHARE: Final = "a share, such as 1%"
CHANGE: Final = "a change, such as +10% or -5%"
RATE: Final = "a rate, such as 1000 or 1000/s"

HELP: Final = {
    "TIME": (
        "A TIME is 500ms, 2s, 1m or 1h, also in us or ns; a bare number is seconds. M is no "
        "unit of time."
    ),
    "SIZE": (
        "A SIZE is 64k, 1M or 1G, times 1,024 each; a bare number is bytes. K is the same as "
        "k, and m no unit of size."
    ),
    "SHARE": "A SHARE is 1%, never without the per cent sign.",
}
"""What help says of a value, by what it calls it."""


@attrs.frozen
class _Written:
    """A number and the unit behind it, as they were written."""

    whole: str
    part: str
    """Digits behind the point."""
    power: int
    unit: str

    @property
    def number(self) -> str:
        """The number without its unit, as it should have been written."""
        power = f"e{self.power}" if self.power else ""
        return f"{self.whole or 0}" + f".{self.part}" * bool(self.part) + power

    @property
    def digits(self) -> int:
        """The number without its point."""
        return int(self.whole + self.part)

    def times(self, power: int, factor: int = 1) -> float:
        """Return the number times a power of ten and a factor, rounded only once."""
        return float(f"{self.digits * factor}e{self.power + power - len(self.part)}")


def _split(text: str) -> _Written | None:
    """Return number and unit, or None if no number is there."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    whole, part, power, unit = (each or "" for each in found.groups())
    return _Written(whole, part, int(power or 0), unit)


def _wrong(text: str, what: str, hint: str = "") -> ValueError:
    return ValueError(f"{quoted(text)} is not {what}" + f"; {hint}" * bool(hint))


def _finite(value: float, text: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{quoted(text)} is too large")
    return value


def read_seconds(text: str) -> float:
    """Read a time; a bare number is seconds.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    return _read_time(text, 0)


def read_nanoseconds(text: str) -> float:
    """Read a time as nanoseconds, without a rounding between; a bare number is seconds.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    return _read_time(text, 9)


def _read_time(text: str, power: int) -> float:
    written = _split(text)
    if written is None:
        raise _wrong(text, TIME)
    unit = written.unit
    if unit in _POWERS:
        return _finite(written.times(_POWERS[unit] + power), text)
    if unit in _MULTIPLES:
        return _finite(written.times(power, _MULTIPLES[unit]), text)
    right = _TIMES_MISSPELT.get(unit.lower(), unit.lower())
    if unit == "M":
        hint = f"M is for sizes, and a minute is {written.number}m"
    elif right in _POWERS or right in _MULTIPLES:
        hint = f"write {written.number}{right}"
    else:
        hint = "the units are ns, us, ms, s, m and h"
    raise _wrong(text, TIME, hint)


def read_size(text: str) -> int:
    """Read a size in bytes; k, M and G are times 1,024.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    written = _split(text)
    if written is None:
        raise _wrong(text, SIZE)
    unit = written.unit
    if unit not in _SIZES:
        right = re.sub("i?b(ytes?)?$", "", unit, flags=re.IGNORECASE).upper().replace("K", "k")
        if unit == "m":
            hint = f"m is a minute, and times 1,024 x 1,024 is {written.number}M"
        elif right in _SIZES:
            hint = f"write {written.number}{right}" + ", which is times 1,024" * (right == "k")
        else:
            hint = "the units are k, M and G"
        raise _wrong(text, SIZE, hint)
    digits, power = written.whole + written.part, written.power - len(written.part)
    if len(digits) + max(power, 0) > _LONGEST:
        raise ValueError(f"{quoted(text)} is too large")
    zeros, places = "0" * max(power, 0), int("1" + "0" * max(-power, 0))
    size, rest = divmod(int(digits + zeros) * _SIZES[unit], places)
    if rest:
        raise _wrong(text, "a whole number of bytes")
    return size


def read_sizes(text: str) -> int | range:
    """Read a size, or a range of them, LEAST-MOST or LEAST-MOST/STEP; each has its own unit.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    bounds, slash, step = text.partition("/")
    least, dash, most = bounds.partition("-")
    if not dash and not slash:
        return read_size(text)
    try:
        low, high, by = read_size(least), read_size(most), read_size(step) if slash else 1
    except ValueError as error:
        raise _wrong(text, SIZES, str(error)) from None
    if high < low:
        raise _wrong(text, SIZES, "write the least first")
    if not by:
        raise _wrong(text, SIZES, "its step is 0")
    return range(low, high + 1, by)


def read_share(text: str) -> float:
    """Read a share, which 1% gives as 0.01.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    return _read_percent(text).times(-2)


def read_percent(text: str) -> float:
    """Read a share, which 1% gives as 1.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    return _read_percent(text).times(0)


def read_change(text: str) -> float:
    """Read a change by a share, which -5% gives as -5; it needs its sign.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    bare = text.strip()
    signed = bare[:1] in {"+", "-"}
    written = _split(bare[signed:])
    if written is None or written.unit not in {"", "%"}:
        raise _wrong(text, CHANGE)
    if not signed:
        raise _wrong(text, CHANGE, f"write +{written.number}% or -{written.number}%")
    if not written.unit:
        raise _wrong(text, CHANGE, f"write {bare[0]}{written.number}%")
    return _finite(written.times(0), text) * (-1 if bare[0] == "-" else 1)


def _read_percent(text: str) -> _Written:
    written = _split(text)
    if written is None:
        raise _wrong(text, SHARE)
    if not written.unit:
        # Who writes 0.5 may mean the half, or the half of one in a hundred.
        raise _wrong(text, SHARE, f"write {_readings(written)}")
    if written.unit != "%":
        raise _wrong(text, SHARE)
    _finite(written.times(0), text)
    return written


def _readings(written: _Written) -> str:
    """Return what a number without the per cent sign may have meant."""
    percent = f"{written.number}%"
    if not 0 < written.times(0) <= 1:
        return percent
    return f"{write_share(written.times(0))} or {percent}"


def read_rate(text: str) -> float:
    """Read how many there are in a second.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    written = _split(text)
    if written is None or written.unit not in {"", "/s"}:
        raise _wrong(text, RATE)
    return _finite(written.times(0), text)


def read_number(text: str) -> float:
    """Read a number without a unit.

    Raises:
        ValueError: it is none; the text names it and what would be right.
    """
    written = _split(text)
    if written is None:
        raise _wrong(text, "a number")
    if written.unit:
        raise _wrong(text, "a number", f"write {written.number}: there is no unit here")
    return _finite(written.times(0), text)


def write_seconds(seconds: float) -> str:
    """Return a time as `read_seconds` reads it back, to the last bit; infinity is off."""
    if math.isinf(seconds):
        return "off"
    if seconds >= _FEW and seconds % 60 == 0:
        unit = "m" if seconds % 3600 else "h"
        return f"{int(seconds) // _MULTIPLES[unit]}{unit}"
    for unit in ("s", "ms", "us"):
        if seconds >= 10.0 ** _POWERS[unit] or not seconds:
            return _shifted(seconds, -_POWERS[unit]) + unit
    return _shifted(seconds, 9) + "ns"


def write_size(size: int) -> str:
    """Return a size as `read_size` reads it back."""
    for unit in ("G", "M", "k"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return str(size)


def write_share(share: float) -> str:
    """Return a share as `read_share` reads it back, to the last bit."""
    return _shifted(share, 2) + "%"


def _shifted(value: float, places: int) -> str:
    """Return a number times a power of ten, in all digits that Python shows of it."""
    mantissa, _, power = repr(float(value)).partition("e")
    whole, _, part = mantissa.partition(".")
    digits, point = whole + part, len(whole) + int(power or 0) + places
    digits = "0" * -point + digits
    point = max(point, 0)
    whole, part = digits[:point].ljust(point, "0").lstrip("0"), digits[point:].rstrip("0")
    return (whole or "0") + f".{part}" * bool(part)
