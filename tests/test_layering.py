"""The house: imports point one way, and every room says what it is for."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "techo"
DOCUMENTS = sorted((SOURCE / "docs").rglob("*.py"))
"""The tour's programs. They ship with the chapters and are documents, not a room: nothing
imports them, and they import nothing but what their readers would."""

FILES = sorted({*SOURCE.rglob("*.py")} - {*DOCUMENTS})

MAY_IMPORT = {
    "endpoint": {"_printable", "_protocols"},
    "reply": set[str](),
    "_addresses": {"endpoint", "trio"},
    "_block": set[str](),
    "_console": set[str](),
    "_nursery": {"trio"},
    "_per_run": {"trio"},
    "_printable": set[str](),
    "_protocols": {"_printable"},
    "_validation": {"_printable"},
    "_quantities": {"_printable", "_validation"},
    "_rules": {"_printable", "_probing", "_quantities"},
    "_figures": {"_load", "_ping", "_probing", "_rules"},
    "_schema": set[str](),
    "_kernel": {"_addresses", "_kernel", "_printable", "_validation", "endpoint"},
    "_shortage": {"_kernel", "trio"},
    "_throttle": {"trio"},
    "_buckets": set[str](),
    "_loop_guard": {"_buckets", "_log", "reply"},
    "_proxy_header": set[str](),
    "_operate": {
        "_kernel",
        "_addresses",
        "_buckets",
        "_log",
        "_nursery",
        "_operate",
        "_printable",
        "_proxy_header",
        "_raw",
        "_server",
        "_shortage",
        "_transport",
        "_validation",
        "endpoint",
        "trio",
    },
    "_log": {"_addresses", "_throttle"},
    "_fields": set[str](),
    "_reprs": set[str](),
    "_memory": {"_memory", "trio"},
    "_faults": {
        "_faults",
        "_printable",
        "_quantities",
        "_transport",
        "_validation",
        "endpoint",
        "trio",
    },
    "_one_endpoint": {"endpoint"},
    "_faulty_stream": {
        "_embedded",
        "_faults",
        "_nursery",
        "_transport",
        "_validation",
        "trio",
    },
    "_embedded": {"_tls", "_transport", "trio"},
    "_raw": {"_raw", "_addresses", "_kernel", "_log", "_transport", "endpoint", "trio"},
    "_server": {
        "_raw",
        "_kernel",
        "_server",
        "_addresses",
        "_buckets",
        "_embedded",
        "_loop_guard",
        "_transport",
        "_nursery",
        "_log",
        "_reprs",
        "_shortage",
        "_throttle",
        "_validation",
        "_pump",
        "_tls",
        "endpoint",
        "reply",
        "trio",
    },
    "_client": {
        "_kernel",
        "_client",
        "_embedded",
        "_nursery",
        "_transport",
        "endpoint",
        "reply",
        "trio",
    },
    "_injection": {"_kernel", "_faults", "_nursery", "_server", "_transport", "reply", "trio"},
    "_proxying": {
        "_addresses",
        "_embedded",
        "_faults",
        "_kernel",
        "_log",
        "_memory",
        "_nursery",
        "_one_endpoint",
        "_per_run",
        "_printable",
        "_proxying",
        "_pump",
        "_server",
        "_shortage",
        "_transport",
        "_validation",
        "endpoint",
        "reply",
        "trio",
    },
    "_echo_service": {
        "_faults",
        "_injection",
        "_nursery",
        "_one_endpoint",
        "_server",
        "_transport",
        "_validation",
        "endpoint",
        "reply",
        "trio",
    },
    "_memory_server": {"_memory", "_faults", "_server", "_echo_service", "reply"},
    "_threads": {
        "_echo_service",
        "_faults",
        "_one_endpoint",
        "_proxying",
        "_server",
        "_threads",
        "endpoint",
        "reply",
        "trio",
    },
    "_fixtures": {"_echo_service", "_faults", "_proxying", "_threads", "endpoint"},
    "testing": {
        "_checking",
        "_faults",
        "_faulty_stream",
        "_fields",
        "_fixtures",
        "_memory",
        "_memory_server",
        "_proxying",
        "_threads",
    },
    "_pytest_plugin": {
        "_fixtures",
        "_proxying",
        "_threads",
        "_memory_server",
        "_echo_service",
        "_faults",
        "_nursery",
        "endpoint",
        "reply",
        "trio",
        "pytest",
    },
    "_checking": {
        "_kernel",
        "_printable",
        "_checking",
        "_addresses",
        "_shortage",
        "_client",
        "_probing",
        "_tls",
        "_transport",
        "_nursery",
        "_validation",
        "endpoint",
        "reply",
        "trio",
    },
    "_probing": {
        "_raw",
        "_kernel",
        "_printable",
        "_shortage",
        "_validation",
        "_probing",
        "_client",
        "_embedded",
        "_transport",
        "_nursery",
        "_pump",
        "_tls",
        "endpoint",
        "reply",
        "trio",
    },
    "_ping": {
        "_block",
        "_kernel",
        "_nursery",
        "_reprs",
        "_schema",
        "_tls",
        "_validation",
        "_ping",
        "_probing",
        "_transport",
        "endpoint",
        "trio",
    },
    "_load": {
        "_console",
        "_kernel",
        "_operate",
        "_schema",
        "_reprs",
        "_validation",
        "_load",
        "_printable",
        "_probing",
        "_transport",
        "_nursery",
        "endpoint",
        "trio",
    },
    "_capacity": {
        "_capacity",
        "_figures",
        "_kernel",
        "_load",
        "_nursery",
        "_printable",
        "_probing",
        "_reprs",
        "_rules",
        "_schema",
        "_validation",
        "trio",
    },
    "_comparing": {"_comparing", "_console", "_load", "_probing", "_schema"},
    "_mesh": {"_console", "_mesh", "_printable", "_probing", "_reprs", "_schema"},
    "_fleet": {
        "_echo_service",
        "_figures",
        "_fleet",
        "_kernel",
        "_load",
        "_mesh",
        "_nursery",
        "_operate",
        "_ping",
        "_printable",
        "_probing",
        "_validation",
        "endpoint",
        "reply",
        "techo",
        "trio",
    },
    "fleet": {"_fields", "_fleet", "_mesh"},
    "_watch": {
        "_block",
        "_addresses",
        "_kernel",
        "_log",
        "_nursery",
        "_operate",
        "_ping",
        "_printable",
        "_probing",
        "_quantities",
        "_rules",
        "_schema",
        "_shortage",
        "_tls",
        "_transport",
        "_validation",
        "_watch",
        "endpoint",
        "trio",
    },
    "_tls": {"_per_run", "_tls", "trio"},
    "_transport": {
        "_kernel",
        "_addresses",
        "_proxy_header",
        "_shortage",
        "_tls",
        "_transport",
        "_memory",
        "endpoint",
        "trio",
    },
    "_pump": {"_kernel", "_per_run", "_pump", "_tls", "reply", "trio"},
    "_cli": {
        "_capacity",
        "_figures",
        "_protocols",
        "_proxying",
        "_raw",
        "_kernel",
        "_addresses",
        "_log",
        "_quantities",
        "_printable",
        "_rules",
        "_schema",
        "_shortage",
        "_validation",
        "_operate",
        "_probing",
        "_ping",
        "_watch",
        "_load",
        "_faults",
        "_fleet",
        "_mesh",
        "_cli",
        "_checking",
        "_comparing",
        "_server",
        "_client",
        "_tls",
        "_transport",
        "_nursery",
        "endpoint",
        "reply",
        "trio",
        "techo",
    },
    "__init__": {
        "_capacity",
        "_comparing",
        "_kernel",
        "_fields",
        "_echo_service",
        "_operate",
        "_server",
        "_client",
        "_probing",
        "_ping",
        "_watch",
        "_load",
        "endpoint",
        "reply",
    },
    "__main__": {"_cli"},
}
"""For each room, the rooms below it; trio is named because the ground floor has none, and
pytest because only its plugin may need it."""


def imported(tree: ast.AST) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def room_of(module: str) -> str | None:
    """The room that a module belongs to; None outside of the house."""
    parts = module.split(".")
    if parts[0] == "techo":
        return parts[1] if len(parts) > 1 else "techo"
    return parts[0] if parts[0] in {"trio", "pytest"} else None


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax of a file."""
    return ast.parse(path.read_text())


def test_imports_point_one_way() -> None:
    """No room imports one above it or beside it."""
    wrong = {}
    for path in FILES:
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        rooms = {room_of(name) for name in imported(tree_of(path))} - {None}
        wrong[str(path)] = rooms - MAY_IMPORT[room]
    assert {path: rooms for path, rooms in wrong.items() if rooms} == {}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_documents_import_what_their_readers_would(path: Path) -> None:
    """The standard library and trio; the last step of the tour imports techo's front door."""
    packages = {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))}
    ours = {"techo"} if path.name.startswith("step7") else set()
    assert packages - sys.stdlib_module_names == {"trio"} | ours
    assert not [name for name in imported(ast.parse(path.read_text())) if "techo." in name]


def test_every_file_is_read_in_one_sitting_and_says_why_it_exists() -> None:
    """The first line is a docstring, and there are at most 400."""
    for path in (*FILES, *DOCUMENTS):
        lines = path.read_text().splitlines()
        assert lines[0].startswith('"""'), path
        assert len(lines) <= 400, path


@pytest.mark.parametrize(
    ("rooms", "most"), [(("_server", "_pump", "_client"), 3500), (("_transport",), 1000)]
)
def test_the_core_can_be_read_in_an_afternoon(rooms: tuple[str, ...], most: int) -> None:
    """What everything else stands beside stays small: lines as ``wc -l`` counts them."""
    files = [path for room in rooms for path in (SOURCE / room).rglob("*.py")]
    assert files
    assert sum(path.read_text().count("\n") for path in files) <= most


def test_only_the_command_line_prints_or_exits() -> None:
    """Library code never prints, never exits, never touches signals."""
    library = [path for path in FILES if not path.is_relative_to(SOURCE / "_cli")]
    library.remove(SOURCE / "__main__.py")
    starts_itself = {SOURCE / "_operate" / "processes.py"}  # with the same Python and path
    for path in library:
        tree = tree_of(path)
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & {"print", "exit"}, path
        allowed = {"sys"} if path in starts_itself else set[str]()
        assert not {"signal", "argparse", "sys"} & set(imported(tree)) - allowed, path
