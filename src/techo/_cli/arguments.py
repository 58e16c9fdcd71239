"""Arguments: how one value is read, and what every command's parser shares."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeAlias, TypeVar

import attrs

T = TypeVar("T")

Group: TypeAlias = argparse._ArgumentGroup  # noqa: SLF001  -- what add_argument_group gives


@attrs.frozen
class Command:
    """One command, as its help tells it."""

    usage: str
    """What follows its name."""
    description: str
    more: str
    """What help says behind the options."""
    add_arguments: Callable[[argparse.ArgumentParser], None]


def explaining(read: Callable[[str], T]) -> Callable[[str], T]:
    """Keep the words of a `ValueError`, which argparse would replace by its own."""

    def explained(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return explained


def read_seconds(text: str) -> float:
    """Read a time above 0.

    Raises:
        ValueError: naming the text.
    """
    return read_number(text, "a number of seconds")


def read_number(text: str, what: str = "a number") -> float:
    """Read a number above 0.

    Raises:
        ValueError: naming the text, and what was expected.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"expected {what} above 0, got {text!r}")
    return value


def read_count(text: str) -> int:
    """Read a whole number above 0.

    Raises:
        ValueError: naming the text.
    """
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ValueError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def flag(name: str) -> str:
    """Give the option that sets `name`."""
    return "--" + name.replace("_", "-")
