"""TOML written for tests, on as many lines as it can have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def written(document: Mapping[str, Any]) -> str:
    """Return a document; of its tables, only the outermost are not in braces."""
    return "".join(f"{_text(key)} = {_value(each)}\n" for key, each in document.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_text(key)} = {_value(each)}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        items = "".join(f"{_value(each)}, # ]\n" for each in value)
        return f"[\n{items}]"
    return _text(value) if isinstance(value, str) else str(value).lower()


def _text(text: str) -> str:
    """Return a text as JSON has it, but for what TOML wants escaped otherwise."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
