"""Readers: from the text of an argument or a variable to a value that was checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from techo._printable import quoted
from techo._quantities import (
    read_rate,
    read_seconds,
    read_size,
    write_seconds,
    write_size,
)
from techo._validation import (
    COUNT,
    PROBES_PER_SECOND,
    SECONDS_ABOVE_0,
    SECONDS_FROM_0,
    TRIPS_PER_SECOND,
    Requirement,
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
    write: Callable[[Any], str] = str
    """Returns a default for help, a quantity as it could be typed."""
    read_variable: Callable[[str], Any] | None = None
    """Reads it from a variable, where that is not what is typed."""
    choices: Callable[[], Sequence[str]] = tuple
    """Returns the words that it can be, if they are few; for completion."""
    check: Callable[[Sequence[str]], None] | None = None
    """Looks at all texts of an argument before they are read; raises as `read` does."""


def checked(read: Callable[[str], Any], requirement: Requirement) -> Callable[[str], Any]:
    """Return what reads a value that has to be as required, or "off" if that is allowed."""

    def read_checked(text: str) -> Any:
        if requirement.off and text == "off":
            return requirement.off[0]
        or_off = ", or off" * bool(requirement.off)
        try:
            value = read(text)
        except ValueError as error:
            raise ValueError(f"{error}{or_off}") from None
        missing = attrs.evolve(requirement, off=()).missing(value)
        if missing is not None:
            raise ValueError(f"{quoted(text)} is not {missing}{or_off}")
        return value

    return read_checked


def time_form(requirement: Requirement) -> Form:
    """Return the form of a time that has to be as required."""
    return Form("TIME", checked(read_seconds, requirement), write_seconds)


def size_form(requirement: Requirement) -> Form:
    """Return the form of a size that has to be as required."""
    return Form("SIZE", checked(read_size, requirement), write_size)


def count_form(requirement: Requirement) -> Form:
    """Return the form of a whole number that has to be as required."""

    def read(text: str) -> Any:
        # What is no number, or too large for any, is not as required either.
        return int(text) if re.fullmatch("[0-9]{1,40}", text) else text

    return Form("N", checked(read, requirement), "{:,}".format)


def choice(*names: str) -> Form:
    """Return the form of a value that is one of a few words."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"{quoted(text)} is not one of {', '.join(names)}")
        return text

    return Form(f"{{{','.join(names)}}}", read, choices=lambda: names)


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
TIME: Final = time_form(SECONDS_ABOVE_0)
TIME_OR_NONE: Final = time_form(SECONDS_FROM_0)
NUMBER: Final = count_form(COUNT)
SIZE: Final = size_form(COUNT)
RATE: Final = Form("RATE", checked(read_rate, TRIPS_PER_SECOND))
PROBE_RATE: Final = Form("RATE", checked(read_rate, PROBES_PER_SECOND))
MODE: Final = Form("OCTAL", _read_mode)
SEED: Final = Form("N", _read_seed)
