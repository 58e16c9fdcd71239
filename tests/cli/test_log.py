"""The log of serve: what systemd's journal gets, and what who sits at a terminal sees."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import command, dial, receive_exactly, serving
from techo._cli.logs import JournalFormatter, TextFormatter
from techo._cli.output import is_journal
from terminals import on_a_terminal

WITH_JOURNAL = [
    sys.executable,
    "-c",
    (
        "import os, sys; found = os.fstat(2); "
        "os.environ['JOURNAL_STREAM'] = f'{found.st_dev}:{found.st_ino}'; "
        "os.execv(sys.argv[1], sys.argv[1:])"
    ),
]
"""Starts a program as systemd does whose standard error is the journal's."""


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal_gets_priorities(form: str) -> None:
    """Each line begins with its level; a text has no time of its own."""
    with serving(
        "--log-format", form, "--max-connections", "1", prefix=WITH_JOURNAL
    ) as process:
        with dial(process) as sock:
            sock.sendall(b"hello")
            receive_exactly(sock, 32)
            with dial(process) as refused:
                assert refused.recv(1) == b""
        _, _, err = process.finish()
    lines = err.splitlines()
    assert [line[:3] for line in lines] == ["<6>", "<6>", "<4>", "<6>", "<6>", "<6>"]
    if form == "text":
        assert lines[0].startswith("<6>serving tcp://127.0.0.1:")
        assert lines[2].startswith("<4>max-connections 1 reached; refused 127.0.0.1:")
    else:
        assert json.loads(lines[2][3:])["event"] == "refused"


def test_another_stream_is_not_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has inherited the variable, but sends standard error elsewhere, gets no marks."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not is_journal()
    with serving(environment={"JOURNAL_STREAM": "1:2"}) as process:
        _, _, err = process.finish()
    assert "<" not in err
    assert " INFO serving " in err


def test_an_error_is_one_for_the_journal(tmp_path: Path) -> None:
    """What ends a command at its start is found by journalctl -p err."""
    path = tmp_path / "err"
    with path.open("wb") as file:
        found = os.fstat(file.fileno())
    environment = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
    script = f'exec "$@" 2>{path}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command("serve", "tcp://no-such-host.invalid:1")],
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 2
    assert path.read_text().startswith("<3>techo: ")


def test_every_line_of_a_traceback_has_its_level() -> None:
    """The journal takes each line as an entry of its own."""
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        fact = {"msg": "failed", "levelno": logging.ERROR, "exc_info": sys.exc_info()}
    lines = JournalFormatter(TextFormatter("%(message)s")).format(logging.makeLogRecord(fact))
    assert lines.startswith("<3>failed\n<3>Traceback")
    assert all(line.startswith("<3>") for line in lines.split("\n"))


@pytest.mark.parametrize(
    ("level", "mark"),
    [(50, "<2>"), (40, "<3>"), (35, "<4>"), (20, "<6>"), (10, "<7>"), (0, "<7>")],
)
def test_every_level_has_its_priority(level: int, mark: str) -> None:
    """What lies between two levels has the lower one's."""
    record = logging.makeLogRecord({"msg": "text", "levelno": level})
    assert JournalFormatter(TextFormatter("%(message)s")).format(record) == f"{mark}text"


@pytest.mark.parametrize("loudness", ["-q", "-v"])
def test_a_terminal_is_told_how_to_stop_it(loudness: str) -> None:
    """Ctrl-C is named when it listens, and what it waits for when it drains."""
    with on_a_terminal(
        "serve", loudness, "--drain-timeout", "1", "tcp://127.0.0.1:0"
    ) as terminal:
        terminal.read_until("Ctrl-C stops it")
        terminal.type(b"\x03")
        terminal.read_until("draining 0 connections")
        assert terminal.popen.wait(30) == -signal.SIGINT
    assert terminal.seen.count("draining 0 connections") == 1


def test_no_terminal_is_told_nothing() -> None:
    """A log that a program reads has records only."""
    with serving("-q") as process:
        _, _, err = process.finish()
    assert err == ""


def test_objects_stay_objects_on_a_terminal() -> None:
    """With --log-format json the hint would be no JSON."""
    arguments = ["serve", "--log-format", "json", "tcp://127.0.0.1:0"]
    with on_a_terminal(*arguments) as terminal:
        terminal.read_until("listening on")
        terminal.type(b"\x03")
        terminal.read_until('"total"')
    assert "Ctrl-C stops it" not in terminal.seen
