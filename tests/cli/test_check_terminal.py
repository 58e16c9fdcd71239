"""techo check on a terminal: what it is doing, and verdicts in colour."""

from __future__ import annotations

import re

import pytest

from helpers import PATIENCE, call
from terminals import on_a_terminal

QUICK = ["--connections", "2", "--skip", "back-pressure", "--skip", "16-MiB"]
GREEN, COLOUR = "\x1b[32m", re.compile(r"\x1b\[3\d")


def shown(port: str) -> str:
    """Return what a terminal is shown of a check."""
    with (
        on_a_terminal("check", *QUICK, port) as terminal,
    ):
        terminal.read_until(" skipped\r\n")
        assert terminal.popen.wait(PATIENCE) == 0
        return terminal.seen


def test_it_shows_what_it_is_doing_and_verdicts_in_colour(port: str) -> None:
    """What is announced makes place for its row, and nothing is left of it."""
    seen = shown(port)
    assert "1-byte ...\r\x1b[K1-byte " in seen
    assert f"{GREEN}pass\x1b[0m" in seen
    assert "back-pressure ..." not in seen
    assert seen.count(" ...") == seen.count("\r\x1b[K")


def test_without_colour_there_is_none(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """NO_COLOR is respected (no-color.org); progress may stay."""
    monkeypatch.setenv("NO_COLOR", "1")
    seen = shown(port)
    assert not COLOUR.search(seen)
    assert "1-byte ..." in seen


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """It gets neither colour nor anything to take away."""
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(port)


def test_a_pipe_gets_lines(port: str) -> None:
    """Rows are as they were, for who reads them line by line."""
    code, out, _ = call("check", *QUICK, port)
    assert code == 0
    assert b"\x1b" not in out
    assert b" ...\r" not in out
