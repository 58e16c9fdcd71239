"""The schema: the number of what machines are given, and what begins each of its objects."""

from __future__ import annotations

from typing import Any, Final

SCHEMA: Final = 2
"""Another number means that a field has changed its meaning; new fields need none."""


def headed(event: str, **fields: Any) -> dict[str, Any]:
    """Return an object of the schema: which number it has, what it is about, and its fields."""
    return {"schema": SCHEMA, "event": event, **fields}
