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

    def __call__(self, _instance: object, field: attrs.Attribute[Any], value: Any) -> None:
        """Check a field of an attrs class; see `check`."""
        self.check(**{field.name: value})

    def check(self, **values: Any) -> None:
        """Refuse each value that does not meet the requirement.

        Raises:
            ValueError: the text has the name, the value and what would be right.
        """
        for name, value in values.items():
            if not self.accepts(value):
                off = "".join(", or " + _name_of(each) for each in self.off)
                raise ValueError(f"{name} {value!r:.{_SHOWN}} is not {self.what}{off}")

    def accepts(self, value: Any) -> bool:
        """Return whether the value meets the requirement or switches it off."""
        return value in self.off or self.is_met(value)

    def or_off(self, value: float | None = None) -> Requirement:
        """Return the same requirement, which accepts `value`, too."""
        return attrs.evolve(self, off=(value,))


def _name_of(off: float | None) -> str:
    return "None" if off is None else "math.inf"


def whole(least: int, most: int | None = None) -> Requirement:
    """Require an int in a range; True and False are none."""

    def is_met(value: Any) -> bool:
        return _is_number(value, int) and least <= value and (most is None or value <= most)

    return Requirement(f"a whole number from {least}{_to(most)}", is_met)


def number(
    *, least: float = 0, above: float | None = None, most: int | None = None, unit: str = ""
) -> Requirement:
    """Require a finite int or float from `least` or above `above`; True and False are none."""
    what = "a number" + (f" of {unit}" if unit else "")
    what += f" from {least:g}" if above is None else f" above {above:g}"
    what += (", up" if above is not None and most is not None else "") + _to(most)

    def is_met(value: Any) -> bool:
        if not _is_number(value, int | float) or not -math.inf < value < math.inf:
            return False
        low = value >= least if above is None else value > above
        return bool(low) and (most is None or value <= most)

    return Requirement(what, is_met)


def _is_number(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _to(most: int | None) -> str:
    if most is None:
        return ""
    return f" to {most}" if most < ENDLESS else " to 1e18"


COUNT: Final = whole(1, ENDLESS)
NATURAL: Final = whole(0, ENDLESS)
SECONDS_ABOVE_0: Final = number(above=0, most=ENDLESS, unit="seconds")
SECONDS_FROM_0: Final = number(most=ENDLESS, unit="seconds")
AMOUNT: Final = number(most=ENDLESS)
SHARE: Final = number(most=1)
FLAG: Final = Requirement("true or false", lambda value: type(value) is bool)
TEXT: Final = Requirement(
    "a text that can be printed", lambda value: type(value) is str and value.isprintable()
)
"""A text that does nothing to a terminal but stand there."""
