"""The last resort: whatever escapes from a command is one line with what to report."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from entering import entered
from helpers import PATIENCE
from techo._cli.bugs import report_bug

START = """
import sys, techo._cli as cli
from techo._cli.output import OutputError
import trio
def main(arguments):
    raise {error}
cli.main = main
cli.entry()
"""


def started(error: str) -> tuple[int, str, str]:
    """Start a process whose command raises."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(error=error)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def escaped(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, str]]:
    """Return what enters a command that raises; it gives exit code and standard error."""

    def enter(error: str) -> tuple[int, str]:
        names: dict[str, Any] = {}
        exec(f"import trio\ndef main(_):\n    raise {error}", names)  # noqa: S102  -- it is ours
        monkeypatch.setattr("techo._cli.main", names["main"])
        return entered(os.open(os.devnull, os.O_WRONLY))

    return enter


def test_a_process_ends_with_one_line() -> None:
    """Whatever has escaped; what else is in it, the others here have."""
    code, out, err = started("KeyError('x')")
    assert (code, out) == (1, "")
    assert err.startswith("techo: KeyError: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("KeyError('x\\n\\x1b[1m')", "KeyError: "),
        ("ConnectionResetError(104, 'reset')", "ConnectionResetError: [Errno 104] reset"),
        ("OSError(5, 'no disk')", "OSError: [Errno 5] no disk"),
        ("ExceptionGroup('several', [ValueError('first'), KeyError()])", "ValueError: first"),
        ("BaseExceptionGroup('a', [KeyboardInterrupt(), KeyError()])", "KeyboardInterrupt"),
        ("trio.TrioInternalError() from ValueError('below')", "ValueError: below"),
        ("AssertionError", "AssertionError ("),
    ],
)
def test_a_bug_is_one_line(
    error: str, words: str, escaped: Callable[[str], tuple[int, str]]
) -> None:
    """It names the error and what to report; an OSError is none of our output."""
    code, err = escaped(error)
    assert code == 1
    assert err.startswith(f"techo: {words}")
    assert "this is a bug in techo; please report this line" in err
    assert "TECHO_TRACEBACK=1" in err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()


def test_the_traceback_is_there_for_the_asking(
    escaped: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable adds it before the line."""
    monkeypatch.setenv("TECHO_TRACEBACK", "1")
    _, err = escaped("KeyError(1)")
    assert err.startswith("Traceback")
    assert "this is a bug in techo" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("OSError(24, '')", "too many open files; raise the limit"),
        ("ExceptionGroup('', [MemoryError()])", "cannot allocate memory; close other"),
    ],
)
def test_a_shortage_is_no_bug(
    error: str, words: str, escaped: Callable[[str], tuple[int, str]]
) -> None:
    """What only shows in the midst of a command has its remedy, too."""
    code, err = escaped(error)
    assert code == 2
    assert words in err


def test_the_first_error_is_reported_with_its_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where it was raised: the file and the line."""
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError
    assert report_bug(ExceptionGroup("", [caught.value])) == 1
    assert "ZeroDivisionError (test_last_resort.py:" in capsys.readouterr().err
