"""Validation: one way to refuse a value, by its name, the value and what would be right."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import UnionType
from typing import Any, Final

import attrs

ENDLESS: Final = 10**18
"""Above every number that makes sense: seconds of this are older than the stars."""

_SHOWN: Final = 99
"""Characters of a wrong value that an error quotes."""


@attrs.frozen
class Requirement:
    """What a value has to be; a validator for attrs, and a check for arguments."""

    what: str
    """The end of the sentence "NAME VALUE is not"."""
    is_met: Callable[[Any], bool]
    off: tuple[float | None, ...] = ()
    """A value beside these that switches off what the value would limit."""
    also: Requirement | None = None
    """What it has to be above this; only named if that is what is missing."""

    def __call__(self, _instance: object, field: attrs.Attribute[Any], value: Any) -> None:
        """Check a field of an attrs class; see `check`."""
        self.check(**{field.name: value})

    def check(self, **values: Any) -> None:
        """Refuse each value that does not meet the requirement.

        Raises:
            ValueError: the text has the name, the value and what would be right.
        """
        for name, value in values.items():
            if (missing := self.missing(value)) is not None:
                raise ValueError(f"{name} {value!r:.{_SHOWN}} is not {missing}")

    def missing(self, value: Any) -> str | None:
        """Return what a value is not; None if it is as required or switches that off."""
        if value in self.off:
            return None
        if not self.is_met(value):
            return self.what + "".join(", or " + _name_of(each) for each in self.off)
        return None if self.also is None else self.also.missing(value)

    def or_off(self, value: float | None = None) -> Requirement:
        """Return the same requirement, which accepts `value`, too."""
        return attrs.evolve(self, off=(value,))


def _name_of(off: float | None) -> str:
    return "None" if off is None else "math.inf"


_SENSIBLE: Final = Requirement("below 1e18", lambda value: value < ENDLESS)


def whole(least: int, most: int | None = None) -> Requirement:
    """Return the requirement of an int in a range; True and False are none."""

    def is_met(value: Any) -> bool:
        return _is_number(value, int) and least <= value and (most is None or value <= most)

    return Requirement(f"a whole number from {least}{_to(most)}", is_met, also=_SENSIBLE)


def number(
    *, above: float | None = None, most: int | None = None, unit: str = ""
) -> Requirement:
    """Return that of a finite int or float from 0 or above `above`; True and False are none."""
    what = "a number" + (f" of {unit}" if unit else "")
    what += " from 0" if above is None else f" above {above:g}"
    what += (", up" if above is not None and most is not None else "") + _to(most)

    def is_met(value: Any) -> bool:
        if not _is_number(value, int | float) or not -math.inf < value < math.inf:
            return False
        high_enough = value >= 0 if above is None else value > above
        return bool(high_enough) and (most is None or value <= most)

    return Requirement(what, is_met, also=_SENSIBLE)


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _to(most: int | None) -> str:
    return "" if most is None else f" to {most}"


COUNT: Final = whole(1)
NATURAL: Final = whole(0)
SECONDS_ABOVE_0: Final = number(above=0, unit="seconds")
SECONDS_FROM_0: Final = number(unit="seconds")
AMOUNT: Final = number()
SHARE: Final = number(most=1)
TRIPS_PER_SECOND: Final = number(above=0, most=10**9, unit="trips per second")
"""More of them a clock of nanoseconds can't tell apart."""
PROBES_PER_SECOND: Final = number(above=0, most=1000, unit="probes per second")
"""More of them beside a load are a load of their own."""
FLAG: Final = Requirement("true or false", lambda value: type(value) is bool)
TEXT: Final = Requirement(
    "a text that can be printed", lambda value: type(value) is str and value.isprintable()
)
"""A text that does nothing to a terminal but stand there."""
