"""The keys of watch's file, and how their values are read; most are options of ping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from techo._cli.options import TLS, flat
from techo._cli.packets import PACKETS
from techo._cli.readers import TIME, Form, count_form, size_form
from techo._printable import quoted
from techo._probing.payloads import SIZE
from techo._validation import TEXT, whole

Read: TypeAlias = Callable[[Any], Any]
"""Raises `ValueError` with what is wrong, and what would be right."""

_NUMBERS: Final = {"TIME", "SIZE", "N", "DSCP"}
"""Forms, by their metavars, of what may stand without quotes."""

_TIMES: Final = count_form(whole(1, 1000))
_SIZE: Final = size_form(SIZE)


def shown(value: Any) -> str:
    """Return a value as the file could have it, in short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "{...}" if isinstance(value, dict) else "[...]"
    return quoted(value) if isinstance(value, str) else str(value)


def text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a text in quotes")  # noqa: TRY004  -- as all do
    if (missing := TEXT.missing(value)) is not None:
        raise ValueError(f"{quoted(value)} is not {missing}")
    return value


def text_or_number(value: Any) -> str:
    """Read what may stand without quotes, as the text that it would have in them."""
    return value if isinstance(value, str) else shown(value)


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not true or false")  # noqa: TRY004  -- as all do
    return value


def _reader_of(form: Form | None) -> Read:
    """Return what reads the value of an option."""
    if form is None:
        return flag
    to_text = text_or_number if form.metavar in _NUMBERS else text
    return lambda value: form.read(to_text(value))


def _options() -> Mapping[str, Read]:
    """Return the keys that are options of every client command."""
    found = [*flat([*TLS, PACKETS])]
    return {each.names[-1].removeprefix("--"): _reader_of(each.form) for each in found}


OPTIONS: Final = _options()

UNSET: Final = {name: False if read is flag else None for name, read in OPTIONS.items()}
"""What these are where nothing is said of them."""

KEYS: Final[Mapping[str, Read]] = {
    "interval": _reader_of(TIME),
    "timeout": _reader_of(TIME),
    "size": _reader_of(_SIZE),
    "connect": flag,
    "down-after": _reader_of(_TIMES),
    "up-after": _reader_of(_TIMES),
    "flap-changes": _reader_of(_TIMES),
    "flap-time": _reader_of(TIME),
    "any-protocol": flag,
    **OPTIONS,
}
"""What defaults, groups and targets can have, beside rules and labels."""

OF_ALL: Final = (*KEYS, "rules", "labels")
"""The names of all of these."""

OF_A_TARGET: Final = ("endpoint", "name", "group")
"""What targets have above this."""

EXCLUSIVE: Final = (("ipv4", "ipv6"), ("tls-ca", "tls-insecure"))
"""Of each pair at most one is meant: the one that stands nearer to the target."""
