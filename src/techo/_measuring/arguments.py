"""Arguments: what ping and load refuse, each by its name and value."""

from __future__ import annotations

import math


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
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} {value!r} is not a whole number above 0")
