"""Topics: `techo help` shows chapters and commands' help, in a pager where there is one."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import PATIENCE, call
from techo._cli import help as command
from techo._cli import pager
from techo._cli.commands import SUMMARIES
from techo._cli.options import Command
from terminals import on_a_terminal

CHAPTERS = command.read_chapters()


def test_help_alone_lists_every_topic() -> None:
    """Each chapter is there with its first line, and each command with what it is for."""
    code, out, err = call("help", environment={"COLUMNS": "100"})
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.decode().splitlines()]
    assert CHAPTERS
    for name, text in CHAPTERS.items():
        title = text.splitlines()[0].removeprefix("# ")
        assert f"{name} {title}" in lines
    for name, summary in SUMMARIES.items():
        assert f"{name} {summary}" in lines


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.parametrize("width", [60, 80])
def test_a_chapter_fits_the_terminal(name: str, width: int) -> None:
    """It is laid out for its width, and off a terminal there is nothing but text."""
    code, out, err = call("help", name, environment={"COLUMNS": str(width), "FORCE_COLOR": "1"})
    assert (code, err) == (0, "")
    text = out.decode()
    assert "\x1b" not in text
    assert "```" not in text
    assert "\N{HORIZONTAL ELLIPSIS}" not in text  # by which rich leaves out the end of a word
    assert max(map(len, text.splitlines())) <= width
    assert command.title_of(CHAPTERS[name])[: width // 2] in text


@pytest.mark.parametrize("name", SUMMARIES)
def test_help_names_only_chapters_that_are_there(name: str) -> None:
    """Where a command's help says that there is more, it is there."""
    found: Command = importlib.import_module(f"techo._cli.{name}").COMMAND
    assert set(found.chapters) <= set(CHAPTERS)
    page = " ".join(call(name, "--help")[1].decode().split())
    assert all(f"techo help {chapter}" in page for chapter in found.chapters)


def test_a_chapter_s_first_line_is_its_title() -> None:
    """The list of topics takes it from there."""
    for name, text in CHAPTERS.items():
        assert text.startswith("# "), name


def test_a_command_s_help_comes_before_its_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One topic has both; a command without a chapter has its help."""
    monkeypatch.setattr(command, "read_chapters", lambda: {"ping": "# About ping\n\nIt pings."})
    monkeypatch.setenv("COLUMNS", "80")
    page = call("ping", "--help")[1]
    code, out, _ = call("help", "ping")
    assert code == 0
    assert out.startswith(page)
    assert out.endswith(b"It pings.\n")
    assert call("help", "load")[1] == call("load", "--help")[1]


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("Tuor", "; did you mean tour?"),
        ("recipes/haproxy", "; did you mean recipes/haproxy.cfg?"),
        ("pign", "; did you mean ping?"),
        ("xyz", "; techo help lists all"),
    ],
)
def test_a_topic_that_is_none_is_like_one(topic: str, hint: str) -> None:
    """One line names what may have been meant; the exit status is 2."""
    assert call("help", topic) == (2, b"", f"techo: there is no topic '{topic}'{hint}\n")


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which a pager called less, the only one there is, keeps its text."""
    kept = tmp_path / "seen"
    less = tmp_path / "less"
    less.write_text(f'#!/bin/sh\n{shlex.quote(cat())} >{kept}; echo "$LESS shown"\n')
    less.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    for name in ("PAGER", "LESS", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return kept


def cat() -> str:
    """Return where cat is."""
    return subprocess.check_output(["sh", "-c", "command -v cat"], text=True).strip()


SETSID = subprocess.check_output(["sh", "-c", "command -v setsid"], text=True).strip()


def show_on_a_terminal(seen: Path, until: str = "shown") -> str:
    """Show the tour on a terminal; return what the pager got."""
    with on_a_terminal("help", "tour", setsid=SETSID) as terminal:
        terminal.read_until(until)
        if until == "shown":  # otherwise it goes on writing, and nobody reads
            assert terminal.popen.wait(PATIENCE) == 0
    return seen.read_text() if seen.exists() else ""


def test_on_a_terminal_less_shows_it_in_colours(seen: Path) -> None:
    """It is told to show colours, and to leave at once if one screen is enough."""
    with on_a_terminal("help", "tour", setsid=SETSID) as terminal:
        terminal.read_until("FRX shown")
        assert terminal.popen.wait(PATIENCE) == 0
    text = seen.read_text()
    assert "\x1b[1m" in text
    assert "A tour" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [("NO_COLOR", "1"), ("LESS", "-i"), ("TERM", "dumb")],
)
def test_a_pager_gets_no_colours_that_nobody_wants(
    seen: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Not where they are not wanted, or would be shown as characters."""
    monkeypatch.setenv("PAGER", "less")
    monkeypatch.setenv(name, value)
    text = show_on_a_terminal(seen)
    assert "A tour" in text
    assert "\x1b" not in text


def test_a_dumb_terminal_has_no_pager_unless_one_is_wanted(
    seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is just printed, without colours."""
    monkeypatch.setenv("TERM", "dumb")
    assert show_on_a_terminal(seen, "A tour") == ""


@pytest.mark.parametrize("wanted", ["", "no-such-pager", "'"])
def test_without_its_pager_the_text_is_printed(
    seen: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """An empty PAGER is none, and one that is not there breaks nothing."""
    monkeypatch.setenv("PAGER", wanted)
    assert show_on_a_terminal(seen, "A tour") == ""


def test_a_pager_may_have_options(seen: Path) -> None:
    """PAGER is a command with its arguments; what is no command is no pager."""
    assert pager.find_pager({"PAGER": "less -X", "TERM": "dumb"}) == ["less", "-X"]
    assert pager.find_pager({"TERM": "xterm"}) == ["less"]
    assert pager.find_pager({"TERM": "dumb"}) == []
    seen.with_name("less").unlink()
    assert pager.find_pager({"TERM": "xterm"}) == []


def test_a_pager_that_is_left_early_is_no_error() -> None:
    """It need not read all of a text, and Ctrl-C while it is open is not ours."""
    leaving = [sys.executable, "-c", "import os; os.kill(os.getppid(), 2)"]
    assert pager.page(leaving, "x" * 10**6)
    assert not pager.page(["/nowhere/pager"], "x")
