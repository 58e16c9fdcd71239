"""Arguments: what ping and load refuse, each by its name and value."""

from __future__ import annotations

from typing import Final

from techo._probing.payloads import LARGEST

ENDLESS: Final = 10**18
"""No number is so large: seconds of this would be older than the stars."""


def given(**arguments: float | None) -> dict[str, float]:
    """Leave out the None that stands for a default."""
    return {name: value for name, value in arguments.items() if value is not None}


def check_numbers(**arguments: float) -> None:
    """Refuse what is not a number above 0.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in arguments.items():
        if not _is_number(value) or not 0 < value < ENDLESS:
            raise ValueError(f"{name} {value!r} is not a number above 0, and below 1e18")


def check_warm_up(seconds: float) -> None:
    """Refuse what is not a number from 0.

    Raises:
        ValueError: naming it.
    """
    if not _is_number(seconds) or not 0 <= seconds < ENDLESS:
        raise ValueError(f"warm_up {seconds!r} is not a number of seconds from 0")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_counts(**arguments: float) -> None:
    """Refuse what is not a whole number above 0.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in arguments.items():
        if type(value) is not int or not 0 < value < ENDLESS:  # True is none
            raise ValueError(f"{name} {value!r} is not a whole number above 0, and below 1e18")


def check_size(size: object) -> int:
    """Give the size of a message, in bytes, if it is one.

    Raises:
        ValueError: naming it, and what is the most.
    """
    if type(size) is not int or size < 1:
        raise ValueError(f"size {size!r} is not a whole number above 0")
    if size > LARGEST:
        raise ValueError(f"size {size!r} is more than {LARGEST} bytes")
    return size
