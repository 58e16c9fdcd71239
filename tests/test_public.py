"""The public surface: what is promised is there, and nothing else."""

from __future__ import annotations

import ast
import inspect
import math
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import attrs
import pytest

import techo
import techo.fleet
import techo.testing
from techo._fields import texts_of


def test_all_is_sorted_and_everything_in_it_exists() -> None:
    """`__all__` is sorted, names no ghosts, and is what dir() shows."""
    modules: tuple[ModuleType, ...] = (techo, techo.testing, techo.fleet)
    for module in modules:
        assert module.__all__ == sorted(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert dir(module) == module.__all__


def test_every_public_name_has_one_room_and_is_in_all() -> None:
    """The rooms that names are fetched from hold exactly the names in `__all__`."""
    homes = [name for names in techo._ROOMS.values() for name in names]
    assert sorted(homes) == techo.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as it does on any module."""
    with pytest.raises(AttributeError, match="no attribute 'EchoServise'"):
        techo.EchoServise  # noqa: B018  # type: ignore[attr-defined]  -- the point of the test


def test_every_public_name_says_what_it_is() -> None:
    """A docstring of its own, for all that can have one."""
    for name in techo.__all__:
        thing = getattr(techo, name)
        assert name == "Reply" or (thing.__doc__ or "").strip(), name


@pytest.mark.parametrize("module", [techo.testing, techo.fleet], ids=["testing", "fleet"])
def test_what_is_for_tests_and_fleets_is_public_too(module: ModuleType) -> None:
    """Its `__all__` is sorted, and each name in it says what it is."""
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert (getattr(module, name).__doc__ or "").strip()


PUBLIC = [
    *((techo, name) for name in techo.__all__),
    *((techo.testing, name) for name in techo.testing.__all__),
    *((techo.fleet, name) for name in techo.fleet.__all__),
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_help_is_useful(module: ModuleType, name: str) -> None:
    """Of every public name help() shows a sentence of its own, and of every field another."""
    thing = getattr(module, name)
    if name in {"Reply", "PingResult"}:
        return  # aliases of types, of which help() shows what they are made of
    shown = re.sub(".\b", "", pydoc.render_doc(thing))  # what is bold is typed twice
    first = (inspect.getdoc(thing) or "").partition("\n\n")[0]
    assert re.search(r"[.:]$", first), first
    assert not first.startswith(("Method generated", "Create and return a new object"))
    assert first.splitlines()[0] in shown
    if isinstance(thing, type) and attrs.has(thing):
        for field in attrs.fields(thing):
            if not field.name.startswith("_"):
                assert re.search(rf"\n \|  {field.name}\n \|      \S.*", shown), field.name


def test_help_on_the_whole_leads_to_names_and_chapters() -> None:
    """Every name and chapter in the module's docstring exists."""
    chapters = {path.stem for path in (Path(techo.__path__[0]) / "docs").glob("*.md")}
    named = re.findall(r"`(?:techo help )?(?:techo\.)?(\w+)`", techo.__doc__ or "")
    assert len(named) > 8
    assert set(named) <= {*techo.__all__, "testing", *chapters}


@pytest.mark.parametrize("field", attrs.fields(techo.Limits), ids=lambda field: field.name)
def test_help_of_limits_has_units_and_defaults(field: attrs.Attribute[object]) -> None:
    """Each limit says what it means, in which unit it counts, and what it is by default."""
    text = texts_of(techo.Limits)[field.name]
    assert field.metadata["meaning"][1:] in text
    assert field.metadata["unit"] in text
    off = field.default in {None, math.inf}
    assert (
        "off" if off else f"{field.default:g}" if field.metadata["unit"] else str(field.default)
    ) in text


def test_importing_techo_does_not_import_trio() -> None:
    """Help and the version are there before trio would be."""
    code = "import sys, techo, techo._cli; sys.exit('trio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_in_the_file_that_is_only_type_checked() -> None:
    """tests/typing/api.py uses all of them, so that a change of type is noticed."""
    rooms = {"techo", "testing", "techo.testing", "fleet"}
    tree = ast.parse((Path(__file__).parent / "typing" / "api.py").read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in rooms
    }
    assert used >= {*techo.__all__, *techo.testing.__all__, *techo.fleet.__all__}
