"""Arguments: how one value is read, and what every command's parser shares."""

from __future__ import annotations

import argparse
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


def flag(name: str) -> str:
    """Give the option that sets `name`."""
    return "--" + name.replace("_", "-")
