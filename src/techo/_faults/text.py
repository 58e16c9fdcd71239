"""Faults as text: NAME=VALUE, and what narrows it, for the command line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from techo._printable import did_you_mean, quoted
from techo._quantities import (
    read_seconds,
    read_share,
    read_size,
    write_seconds,
    write_share,
    write_size,
)

if TYPE_CHECKING:
    from techo._faults.values import Fault


def _chance(text: str) -> float:
    if (share := read_share(text)) > 1:
        raise ValueError(f"{quoted(text)} is more than 100%")
    return share


def _count(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{quoted(text)} is no whole number")
    return int(text)


def _window(text: str) -> tuple[float, float]:
    # A minus sign may be that of a power of ten.
    begin, *end = re.split("(?<![eE])-", text)
    if len(end) != 1:
        raise ValueError(f"{quoted(text)} is not a period, such as 5s-10s, or 5s- without end")
    return read_seconds(begin), read_seconds(end[0]) if end[0] else math.inf


def _write_window(window: tuple[float, float]) -> str:
    begin, end = window
    return f"{write_seconds(begin)}-" + ("" if math.isinf(end) else write_seconds(end))


@attrs.frozen
class _Value:
    """How a value of a fault is read and written."""

    read: Callable[[str], Any]
    write: Callable[[Any], str]


_TIME: Final = _Value(read_seconds, write_seconds)
_SIZE: Final = _Value(read_size, write_size)
_SHARE: Final = _Value(_chance, write_share)
_COUNT: Final = _Value(_count, str)


@attrs.frozen
class _Form:
    """How a fault is written."""

    name: str
    """Of its class."""
    fields: dict[str, _Value] = attrs.field(factory=dict)
    """What stands behind the equals sign, in this order."""
    separator: str = "/"
    """What stands between them."""
    value: str = ""
    """The same for people."""

    @property
    def kind(self) -> type[Fault]:
        """Its class."""
        from techo._faults import values  # noqa: PLC0415  -- help has no time to make them all

        found: type[Fault] = getattr(values, self.name)
        return found


_FORMS: Final = {
    "delay": _Form("Delay", {"seconds": _TIME, "jitter": _TIME}, "~", "TIME[~TIME]"),
    "throttle": _Form("Throttle", {"bytes_per_second": _SIZE}, value="SIZE"),
    "slow-accept": _Form("SlowAccept", {"seconds": _TIME}, value="TIME"),
    "stall": _Form("Stall", {"after": _SIZE}, value="SIZE"),
    "slow-close": _Form("SlowClose", {"seconds": _TIME}, value="TIME"),
    "chunk": _Form("Chunk", {"least": _SIZE, "most": _SIZE}, "-", "SIZE[-SIZE]"),
    "truncate": _Form("Truncate", {"after": _SIZE}, value="SIZE"),
    "corrupt": _Form("Corrupt", {"rate": _SHARE}, value="SHARE"),
    "lengthen": _Form("Lengthen", {"by": _SIZE}, value="SIZE"),
    "reset": _Form("Reset", {"after": _SIZE}, value="SIZE"),
    "close-unread": _Form("CloseUnread"),
    "half-close-first": _Form("HalfCloseFirst"),
    "ignore-end": _Form("IgnoreEnd"),
    "never-read": _Form("NeverRead"),
    "refuse": _Form("Refuse"),
    "drop": _Form("DropReply", {"rate": _SHARE}, value="SHARE"),
    "duplicate": _Form("DuplicateReply", {"rate": _SHARE}, value="SHARE"),
    "reorder": _Form(
        "ReorderReplies", {"rate": _SHARE, "depth": _COUNT}, value="SHARE[/DEPTH]"
    ),
    "never-handshake": _Form("NeverHandshake"),
    "no-close-notify": _Form("NoCloseNotify"),
    "expired-certificate": _Form("ExpiredCertificate"),
    "wrong-name": _Form("WrongName"),
}

_NARROWING: Final = {
    "probability": ("probability", "SHARE", _SHARE),
    "every": ("every", "N", _COUNT),
    "first": ("first", "N", _COUNT),
    "skip": ("skip", "N", _COUNT),
    "between": ("between", "TIME-TIME", _Value(_window, _write_window)),
    "from": ("offset", "SIZE", _SIZE),
}
"""What a fault may go on with: its field, what help calls the value, and its form."""

NARROWING: Final = tuple(f"{key}={value}" for key, (_, value, _) in _NARROWING.items())
"""The same for people."""


def parse_fault(text: str) -> Fault:
    """Read ``NAME[=VALUE]`` and what it may go on with, such as ``,every=N``.

    Raises:
        ValueError: naming the text, what is wrong with it and what would be right.
    """
    try:
        return attrs.evolve(_parse(text), typed=text)
    except ValueError as error:
        raise ValueError(f"bad fault {quoted(text)}: {error}") from None


def _parse(text: str) -> Fault:
    first, *narrowing = text.split(",")
    name, equals, value = first.partition("=")
    if name not in _FORMS:
        near = did_you_mean(name, _FORMS) or f"; there are {', '.join(_FORMS)}"
        raise ValueError(f"unknown fault {quoted(name)}{near}")
    fields = _read_value(name, value) if equals else {}
    for part in narrowing:
        key, equals, value = part.partition("=")
        if key not in _NARROWING or not equals:
            raise ValueError(f"{quoted(part)} is none of {', '.join(NARROWING)}")
        field, _, form = _NARROWING[key]
        fields[field] = form.read(value)
    return _make(name, fields)


def _read_value(name: str, value: str) -> dict[str, Any]:
    form = _FORMS[name]
    parts = value.split(form.separator)
    if len(parts) > len(form.fields):
        raise ValueError(f"write {forms(name)}")
    return {
        field: each.read(part)
        for (field, each), part in zip(form.fields.items(), parts, strict=False)
    }


def _make(name: str, fields: dict[str, Any]) -> Fault:
    kind = _FORMS[name].kind
    needed = {
        each.name
        for each in attrs.fields(kind)
        if each.default is attrs.NOTHING and not each.kw_only
    }
    if not needed <= fields.keys():
        raise ValueError(f"write {forms(name)}")
    return kind(**fields)


def write_fault(fault: Fault) -> str:
    """Return a fault as `parse_fault` reads it back; defaults are left out.

    Raises:
        ValueError: it has an authority, which no text names.
    """
    (name,) = (name for name, form in _FORMS.items() if form.name == type(fault).__name__)
    form = _FORMS[name]
    given = fault.given
    if "authority" in given:
        raise ValueError(f"{fault} has an authority, which no text names")
    written = [each.write(getattr(fault, field)) for field, each in form.fields.items()]
    while written and list(form.fields)[len(written) - 1] not in given:
        written.pop()
    text = name + "=" * bool(written) + form.separator.join(written)
    for key, (field, _, each) in _NARROWING.items():
        if field in given:
            text += f",{key}={each.write(given[field])}"
    return text


def kinds() -> list[str]:
    """Return the names of all faults, with an equals sign where a value follows."""
    return [name + "=" * bool(form.value) for name, form in _FORMS.items()]


def forms(*names: str) -> str:
    """Return how some faults are written, or all of them."""
    return ", ".join(
        name + (f"={_FORMS[name].value}" if _FORMS[name].value else "")
        for name in names or _FORMS
    )
