"""Imports: no command waits for what it does not use, and help for nearly nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import PATIENCE, call
from histories import BEGIN, span, write
from techo._cli.commands import COMMANDS

LOOK = """
import sys
from techo._cli import main
code = main(sys.argv[1:])
for name in sys.modules:
    print(name, file=sys.stderr)
sys.exit(code)
"""

MEASURING = {"techo._ping", "techo._load", "techo._checking", "techo._capacity"}
SERVING = {"techo._server", "techo._faults"}
DRAWING = {"matplotlib", "numpy"}
HELPING = {"rich.markdown", "techo._cli.pager", "importlib.metadata", "difflib"}
"""What only mistakes and chapters need."""
CLIENT = SERVING | DRAWING | HELPING


def imported(*arguments: str) -> set[str]:
    """Run a command in a process of its own; return the names of all modules it has then."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=True,
    )
    return {line.strip() for line in done.stderr.decode().splitlines()}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_first_page_waits_for_nothing(option: str) -> None:
    """It is text, and needs neither options, nor attrs, nor a list of what is installed."""
    found = imported(option)
    assert "techo._cli.commands" in found
    assert not found & {"trio", "rich", "attr", "argparse", "importlib.metadata", "ssl"}
    assert not {name for name in found if name.startswith("techo.")} - {
        "techo._printable",
        *(f"techo._cli{each}" for each in ("", ".commands", ".output", ".page", ".process")),
        *(f"techo._cli{each}" for each in (".signals", ".versions")),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_help_needs_only_its_own_command(name: str) -> None:
    """A command's page waits neither for trio, ssl nor rich, nor for another command."""
    code = (
        "import sys; from techo._cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, name, "--help"], capture_output=True, check=True
    )
    found = set(done.stdout.decode().splitlines()[-1].split())
    assert f"techo._cli.{name}" in found
    assert not found & {"trio", "ssl", "rich", "shutil", "techo._faults.values"}
    assert not found & (DRAWING | HELPING)
    assert not found & {f"techo._cli.{other}" for other in COMMANDS if other != name}


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["ping", "-n", "1"], CLIENT | MEASURING - {"techo._ping"} | {"rich"}),
        (["load", "-n", "5", "--json"], CLIENT | MEASURING - {"techo._load"} | {"rich"}),
        (["load", "-n", "5"], CLIENT | MEASURING - {"techo._load"}),
        (["talk"], CLIENT | MEASURING | {"rich"}),
        (
            ["check", "--connections", "2", "--skip", "back-pressure", "--skip", "16-MiB"],
            CLIENT | MEASURING - {"techo._checking"},
        ),
    ],
    ids=lambda value: " ".join(value[:1] + value[3:4]) if isinstance(value, list) else "",
)
def test_a_client_imports_what_it_uses(
    arguments: list[str], spared: set[str], port: str
) -> None:
    """What only other commands need stays where it is."""
    found = imported(*arguments, port)
    assert "trio" in found
    assert not found & spared


def test_merge_and_compare_need_no_trio(tmp_path: Path, port: str) -> None:
    """They read reports, and talk to nobody."""
    report = tmp_path / "report"
    report.write_bytes(call("load", "-n", "5", "--json", port)[1])
    found = imported("merge", "--json", str(report))
    assert not found & (CLIENT | {"trio", "ssl", "rich", "techo._ping", "techo._checking"})
    other = tmp_path / "other"
    for each in (report, other):  # of five runs, as many as it takes
        each.write_bytes(report.read_bytes().splitlines(keepends=True)[0] * 5)
    found = imported("compare", "--json", str(report), str(other))
    assert "techo._comparing" in found
    assert not found & (CLIENT | {"trio", "ssl", "rich", "matplotlib", "techo._ping"})


def test_history_needs_no_trio(tmp_path: Path) -> None:
    """It reads a file, beside the process that writes it."""
    path = str(tmp_path / "watch.db")
    write(path, [span(BEGIN, 5000)])
    found = imported("history", path)
    assert not found & (CLIENT | {"trio", "ssl", "rich", "techo._ping", "techo._checking"})


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_needs_no_trio(shell: str) -> None:
    """A shell that sources it at its start waits for names only."""
    found = imported("completion", shell)
    assert not found & (DRAWING | {"trio", "ssl", "rich", "techo._checking.suite"})


def test_a_server_imports_no_client(tmp_path: Path) -> None:
    """One that cannot listen has what a server needs, neither measures nor draws nor harms."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, f"unix:{tmp_path}/none/s"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    found = {line.strip() for line in done.stderr.decode().splitlines()}
    assert {"trio", "techo._server.service"} <= found
    assert not found & (MEASURING | DRAWING | HELPING | {"rich", "techo._injection"})
    assert {name for name in found if name.startswith("techo._faults.")} == {
        "techo._faults.text"  # which reads --fault
    }
