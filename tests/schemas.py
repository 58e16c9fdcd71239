"""The JSON Schema that ships with the chapters, to which `helpers` holds all that tests see.

It is stricter here: nothing may be in an object but what it describes.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema

from documents import DOCS

SCHEMA: dict[str, Any] = json.loads((DOCS / "schema.json").read_text())
KINDS = [each["$ref"].rpartition("/")[2] for each in SCHEMA["oneOf"]]


def strict(schema: Any) -> Any:
    """Return a schema by which an object has no other properties than those described."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(each) for name, each in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found["additionalProperties"] = False
    return found


@functools.cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    """Return what validates objects of one kind."""
    schema = strict({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})
    return jsonschema.Draft202012Validator(schema)


def event_of(kind: str) -> str:
    """Return the event of all objects of a kind."""
    event: str = SCHEMA["$defs"][kind]["properties"]["event"]["const"]
    return event


def kind_of(found: dict[str, Any]) -> str:
    """Return the kind of an object, which must be exactly one of those described."""
    errors = dict[str, str]()
    matching = list[str]()
    for kind in KINDS:
        if event_of(kind) == found.get("event"):
            error = jsonschema.exceptions.best_match(_validator(kind).iter_errors(found))
            if error is None:
                matching.append(kind)
            else:
                errors[kind] = f"{error.json_path}: {error.message}"
    assert len(matching) == 1, f"{matching or errors or 'an unknown event'}: {found}"
    return matching[0]


def check_lines(text: str) -> None:
    """Hold every line that is an object to the schema."""
    for line in text.splitlines():
        if line.startswith('{"'):  # in UTF-16 it is something else
            kind_of(json.loads(line))
