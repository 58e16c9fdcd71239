"""Arguments: what ping and load refuse, each by its name and value."""

from __future__ import annotations

import math

from techo._measuring.payloads import LARGEST


def check_numbers(**arguments: float | None) -> None:
    """Refuse what is not a number above 0; None stands for a default.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in arguments.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} {value!r} is not a number above 0")


def check_counts(**arguments: float | None) -> None:
    """Refuse what is not a whole number above 0; None stands for a default.

    Raises:
        ValueError: naming the argument and its value.
    """
    for name, value in arguments.items():
        if value is not None and (type(value) is not int or value < 1):  # True is none
            raise ValueError(f"{name} {value!r} is not a whole number above 0")


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
