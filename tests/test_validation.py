"""Requirements: what they accept, and how they refuse everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from techo._validation import (
    AMOUNT,
    COUNT,
    FLAG,
    NATURAL,
    SECONDS_ABOVE_0,
    SECONDS_FROM_0,
    SHARE,
    TEXT,
    Requirement,
    number,
    whole,
)

GOOD: list[tuple[Requirement, list[object]]] = [
    (COUNT, [1, 10**17]),
    (NATURAL, [0]),
    (whole(2, 4), [2, 4]),
    (SECONDS_ABOVE_0, [0.001, 5]),
    (SECONDS_FROM_0, [0, 0.0]),
    (SECONDS_ABOVE_0.or_off(math.inf), [math.inf, 1]),
    (COUNT.or_off(), [None, 1]),
    (AMOUNT, [0, 1.5]),
    (SHARE, [0, 1, 0.5]),
    (number(above=0, most=9), [0.1, 9]),
    (FLAG, [True, False]),
    (TEXT, ["", "tcp://x:1", "ü"]),
]
BAD: list[tuple[Requirement, object, str]] = [
    (COUNT, 0, "x 0 is not a whole number from 1"),
    (COUNT, True, "x True is not a whole number from 1"),
    (COUNT, 1.0, "x 1.0 is not a whole number from 1"),
    (COUNT, "1", "x '1' is not a whole number from 1"),
    (COUNT, 10**18, "x 1000000000000000000 is not below 1e18"),
    (COUNT.or_off(), 0, "x 0 is not a whole number from 1, or None"),
    (whole(2, 4), 5, "x 5 is not a whole number from 2 to 4"),
    (SECONDS_ABOVE_0, 0, "x 0 is not a number of seconds above 0"),
    (SECONDS_ABOVE_0, None, "x None is not a number of seconds above 0"),
    (SECONDS_ABOVE_0, math.inf, "x inf is not a number of seconds above 0"),
    (SECONDS_ABOVE_0.or_off(math.inf), math.nan, "x nan is not a number of seconds above 0, "),
    (SECONDS_ABOVE_0.or_off(math.inf), -1, "x -1 is not a number of seconds above 0, or math"),
    (AMOUNT, True, "x True is not a number from 0"),
    (AMOUNT, 1e18, "x 1e+18 is not below 1e18"),
    (SHARE, 1.5, "x 1.5 is not a number from 0 to 1"),
    (number(above=0, most=9), 10, "x 10 is not a number above 0, up to 9"),
    (FLAG, 1, "x 1 is not true or false"),
    (TEXT, b"x", "x b'x' is not a text that can be printed"),
    (TEXT, "\x1b[2J", r"x '\x1b[2J' is not a text that can be printed"),
    (COUNT, "y" * 1000, "x '" + "y" * 98 + " is not a whole number from 1"),
]


def checked(requirement: Requirement) -> Callable[[Any], object]:
    """A class with one field that must be so."""

    @attrs.frozen
    class Checked:
        x: Any = attrs.field(validator=requirement)

    return Checked


@pytest.mark.parametrize(("requirement", "values"), GOOD)
def test_what_is_as_required_is_accepted(
    requirement: Requirement, values: list[object]
) -> None:
    """As an argument and as a field."""
    for value in values:
        requirement.check(x=value)
        checked(requirement)(value)


@pytest.mark.parametrize(("requirement", "value", "words"), BAD)
def test_everything_else_is_refused_in_the_same_words(
    requirement: Requirement, value: object, words: str
) -> None:
    """The error has the name, the value and what would be right."""
    with pytest.raises(ValueError, match=" is not ") as as_argument:
        requirement.check(x=value)
    with pytest.raises(ValueError, match=" is not ") as as_field:
        checked(requirement)(value)
    assert str(as_argument.value).startswith(words)
    assert str(as_field.value) == str(as_argument.value)
