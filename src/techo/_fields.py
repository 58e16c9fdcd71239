"""Fields: help() shows what the source says below each field of a public class."""

from __future__ import annotations

import itertools
import math
from typing import Any, TypeVar

Thing = TypeVar("Thing")


class FieldTexts(dict[str, str]):
    """The slots of a class, each with its text, which is read when it is asked for."""

    def __init__(self, owner: type) -> None:
        names = [each.name for each in owner.__attrs_attrs__]  # type: ignore[attr-defined]  # attrs adds it
        super().__init__(dict.fromkeys([*getattr(owner, "__slots__", ()), *names], ""))
        self._owner = owner

    def __getitem__(self, name: str) -> str:
        """Return what is said of a field."""
        return texts_of(self._owner).get(name, "")


def with_texts(thing: Thing) -> Thing:
    """Return a class or anything else; of a class, help() shows the texts of its fields."""
    for owner in getattr(thing, "__mro__", ()):
        slots = vars(owner).get("__slots__")
        if "__attrs_attrs__" in vars(owner) and isinstance(slots, tuple):
            # Where it is a mapping, its values are what pydoc says of the slots.
            owner.__slots__ = FieldTexts(owner)
    return thing


def texts_of(owner: type) -> dict[str, str]:
    """Return what is said of each field: in its metadata, or below it in the source."""
    return {**_in_source(owner), **_in_metadata(owner)}


def _in_metadata(owner: Any) -> dict[str, str]:
    return {
        each.name: _sentence(each.default, each.metadata["unit"], each.metadata["meaning"])
        for each in owner.__attrs_attrs__
        if "meaning" in each.metadata
    }


def _sentence(default: Any, unit: str, meaning: str) -> str:
    if default in {None, math.inf}:
        shown = f"in {unit}, default: off"
    else:
        shown = f"default: {default:g} {unit}" if unit else f"default: {default}"
    return f"{meaning[0].upper()}{meaning[1:]} ({shown})."


def _in_source(owner: type) -> dict[str, str]:
    import ast  # noqa: PLC0415  -- only help() needs these
    import inspect  # noqa: PLC0415  -- likewise

    try:
        tree = ast.parse(inspect.getsource(inspect.getmodule(owner) or owner))
    except OSError:  # there is no source
        return {}
    (body,) = (
        each.body
        for each in tree.body
        if isinstance(each, ast.ClassDef) and each.name == owner.__name__
    )
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
