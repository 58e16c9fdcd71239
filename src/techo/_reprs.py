"""Reprs: short enough to be read in a failing assertion."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs


def brief(instance: Any) -> str:
    """Return the repr of an attrs instance without what is zero, empty or None."""
    kind = type(instance)
    fields = {each.name: getattr(instance, each.name) for each in attrs.fields(kind)}
    shown = [f"{name}={_shown(value)}" for name, value in fields.items() if not _is_zero(value)]
    return f"{kind.__name__}({', '.join(shown)})"


def _is_zero(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_zero, value.values()))
    if attrs.has(type(value)):
        return all(map(_is_zero, attrs.asdict(value, recurse=False).values()))
    return value is None or value in (0, "", ())


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        entries = [
            f"{key}: {_shown(each)}" for key, each in value.items() if not _is_zero(each)
        ]
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, enum.Enum):
        return str(value)
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
