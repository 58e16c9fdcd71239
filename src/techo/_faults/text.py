"""Faults as text: NAME=VALUE, and what narrows it, for the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

from techo._printable import did_you_mean, quoted
from techo._quantities import read_seconds, read_share, read_size

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


_Reader = Callable[[str], Any]


@attrs.frozen
class _Form:
    """How a fault is written."""

    name: str
    """Of its class."""
    fields: dict[str, _Reader] = attrs.field(factory=dict)
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
    "delay": _Form(
        "Delay", {"seconds": read_seconds, "jitter": read_seconds}, "~", "TIME[~TIME]"
    ),
    "throttle": _Form("Throttle", {"bytes_per_second": read_size}, value="SIZE"),
    "slow-accept": _Form("SlowAccept", {"seconds": read_seconds}, value="TIME"),
    "stall": _Form("Stall", {"after": read_size}, value="SIZE"),
    "slow-close": _Form("SlowClose", {"seconds": read_seconds}, value="TIME"),
    "chunk": _Form("Chunk", {"least": read_size, "most": read_size}, "-", "SIZE[-SIZE]"),
    "truncate": _Form("Truncate", {"after": read_size}, value="SIZE"),
    "corrupt": _Form("Corrupt", {"rate": _chance}, value="SHARE"),
    "lengthen": _Form("Lengthen", {"by": read_size}, value="SIZE"),
    "reset": _Form("Reset", {"after": read_size}, value="SIZE"),
    "close-unread": _Form("CloseUnread"),
    "half-close-first": _Form("HalfCloseFirst"),
    "ignore-end": _Form("IgnoreEnd"),
    "never-read": _Form("NeverRead"),
    "refuse": _Form("Refuse"),
    "drop": _Form("DropReply", {"rate": _chance}, value="SHARE"),
    "duplicate": _Form("DuplicateReply", {"rate": _chance}, value="SHARE"),
    "reorder": _Form(
        "ReorderReplies", {"rate": _chance, "depth": _count}, value="SHARE[/DEPTH]"
    ),
    "never-handshake": _Form("NeverHandshake"),
    "no-close-notify": _Form("NoCloseNotify"),
    "expired-certificate": _Form("ExpiredCertificate"),
    "wrong-name": _Form("WrongName"),
}

_NARROWING: Final[dict[str, tuple[str, _Reader]]] = {
    "probability": ("probability", _chance),
    "every": ("every", _count),
    "from": ("offset", read_size),
}


def parse_fault(text: str) -> Fault:
    """Read ``NAME[=VALUE][,probability=SHARE][,every=N][,from=SIZE]``.

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
            raise ValueError(f"{quoted(part)} is none of probability=SHARE, every=N, from=SIZE")
        field, read = _NARROWING[key]
        fields[field] = read(value)
    return _make(name, fields)


def _read_value(name: str, value: str) -> dict[str, Any]:
    form = _FORMS[name]
    parts = value.split(form.separator)
    if len(parts) > len(form.fields):
        raise ValueError(f"write {forms(name)}")
    return {
        field: read(part)
        for (field, read), part in zip(form.fields.items(), parts, strict=False)
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


def kinds() -> list[str]:
    """Return the names of all faults, with an equals sign where a value follows."""
    return [name + "=" * bool(form.value) for name, form in _FORMS.items()]


def forms(*names: str) -> str:
    """Return how some faults are written, or all of them."""
    return ", ".join(
        name + (f"={_FORMS[name].value}" if _FORMS[name].value else "")
        for name in names or _FORMS
    )
