"""Readers: from the text of an argument or a variable to a value that was checked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from techo._validation import (
    COUNT,
    SECONDS_ABOVE_0,
    SECONDS_FROM_0,
    TRIPS_PER_SECOND,
    Requirement,
    quoted,
)
from techo.endpoint import certificate_name

_ALL_PERMISSIONS: Final = 0o777


@attrs.frozen
class Form:
    """How the value of an option is written."""

    metavar: str
    """What help calls it."""
    read: Callable[[str], Any]
    """Raises `ValueError` with a text that has the value and what would be right."""
    unit: str = ""
    """Of a number without one."""
    read_variable: Callable[[str], Any] | None = None
    """Reads it from a variable, where that is not what is typed."""


def number_reader(requirement: Requirement) -> Callable[[str], Any]:
    """Return what reads a number, or "off" where the requirement knows that."""
    return _reader(requirement, float)


def count_reader(requirement: Requirement) -> Callable[[str], Any]:
    """Return what reads a whole number, or "off" where the requirement knows that."""
    return _reader(requirement, _whole)


def _reader(requirement: Requirement, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if requirement.off and text == "off":
            return requirement.off[0]
        try:
            value = convert(text)
        except ValueError:
            value = text  # no number, as the requirement will say
        if value in requirement.off:
            return value
        missing = attrs.evolve(requirement, off=()).missing(value)
        if missing is not None:
            raise ValueError(
                f"{quoted(text)} is not {missing}{', or off' * bool(requirement.off)}"
            )
        return value

    return read


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)


def choice(*names: str) -> Form:
    """Return the form of a value that is one of a few words."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"{quoted(text)} is not one of {', '.join(names)}")
        return text

    return Form(f"{{{','.join(names)}}}", read)


def _read_mode(text: str) -> int:
    if not re.fullmatch("[0-7]{3,4}", text) or int(text, 8) > _ALL_PERMISSIONS:
        raise ValueError(f"{quoted(text)} is not permissions in octal digits, such as 660")
    return int(text, 8)


def _read_seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not a whole number") from None


def _read_server_name(text: str) -> str:
    try:
        certificate_name(text)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is neither the name of a host nor an address"
        ) from None
    return text


SERVER_NAME: Final = Form("NAME", _read_server_name)
FILE: Final = Form("FILE", str)
SECONDS: Final = Form("SECONDS", number_reader(SECONDS_ABOVE_0), "s")
WARM_UP: Final = Form("SECONDS", number_reader(SECONDS_FROM_0), "s")
NUMBER: Final = Form("N", count_reader(COUNT))
BYTES: Final = Form("BYTES", count_reader(COUNT), "bytes")
RATE: Final = Form("TRIPS_PER_SECOND", number_reader(TRIPS_PER_SECOND))
MODE: Final = Form("OCTAL", _read_mode)
SEED: Final = Form("N", _read_seed)
