"""techo watch: what a user sees of it, in this process where that shows it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import PATIENCE, call, free_endpoint, serving
from techo._probing.failure_cause import FailureCause
from techo._watch.counts import Counts
from techo._watch.history_file import open_to_write
from terminals import on_a_terminal
from watching import watching

QUICK = ["-i", "0.02", "-W", "0.1"]


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    """An endpoint that answers."""
    with serving() as process:
        yield str(process.endpoints[0])


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """An endpoint that can be connected to, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def objects(out: bytes) -> list[dict[str, Any]]:
    """Return what --json has printed."""
    return [json.loads(line) for line in out.splitlines()]


def test_it_ends_with_a_table_and_a_reason_for_its_status(good: str, silent: str) -> None:
    """One target answered, one accepts and is silent, and one is not there."""
    gone = free_endpoint("tcp")
    rule = ["--fail-if", "received>0"]
    quick = ["--for", "2", "-i", "0.05", "-W", "0.3"]  # on a slow machine, too
    code, out, errors = call("watch", *quick, *rule, good, silent, gone)
    assert code == 1
    *never, fired = errors.splitlines()
    assert never == [f"techo: {each} never answered" for each in (silent, gone)]
    assert fired.startswith(f"techo: {good}: received>0: received was ")
    changes = r"[-\d]{10} [:\d]{8} (\S+) is (up|down since [:.\d]+: 3 probes lost, .*)\n"
    lines = dict(re.findall(changes, out.decode()))
    assert lines[good] == "up"
    assert lines[gone].endswith("refused (connection refused)")
    assert lines[silent].endswith("timeout-reply (no reply within 0.3 s)")
    head, *rows, counts = out.decode().splitlines()[-5:]
    assert head.split() == ["target", "state", "for", "last", "p50", "p99", "loss"]
    assert [row.split()[:2] for row in rows] == [
        [good, "up"],
        [silent, "down"],
        [gone, "down"],
    ]
    assert counts == "2 down, 1 up"


def test_nobody_there_at_all_is_a_status_of_its_own(tmp_path: Path) -> None:
    """With -q, --json prints each target in the end only; --output has the changes, too."""
    output = tmp_path / "all.json"
    there = free_endpoint("tcp")
    keep = ["--json", "-q", "--output", str(output)]
    code, out, errors = call("watch", "--for", "0.6", *QUICK, *keep, there)
    assert code == 2
    assert errors.startswith(f"techo: {there} was never reached (refused ")
    (last,) = objects(out)
    assert (last["event"], last["target"]) == ("target", there)
    assert [each["event"] for each in objects(output.read_bytes())] == ["change", "target"]


def test_who_answers_wrongly_was_reached() -> None:
    """A probe that was refused before makes no difference; one that came late is not lost."""
    counts = Counts()
    assert not counts.never_reached
    counts.failures.update([FailureCause.REFUSED, FailureCause.DNS])
    assert counts.never_reached
    counts.failures[FailureCause.TIMEOUT_REPLY] = 0
    assert counts.never_reached
    counts.failures[FailureCause.TIMEOUT_REPLY] = 1
    assert not counts.never_reached


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([], "there is nothing to watch"),
        (["--check-config", "8009"], "--check-config: there is no --config"),
        (["--on-change", "no-such-program", "8009"], "is no program here"),
        (["--config", "/no/file"], "/no/file: No such file"),
        (["--connect", "udp://8009"], "connecting to udp://127.0.0.1:8009 shows nothing"),
        (["--web-token", "x", "8009"], "--web-token is for --web"),
        (["--web", "*:0", "8009"], "needs a token"),
        (["--history", "/no/folder/file", "8009"], "there is no folder"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], error: str) -> None:
    """Nothing is watched then."""
    code, out, errors = call("watch", *words)
    assert (code, out, errors.count("\n")) == (2, b"", 1)
    assert error in errors


def test_a_history_has_one_writer(tmp_path: Path, good: str) -> None:
    """The second is refused, and watches nothing."""
    path = str(tmp_path / "history.db")
    file = open_to_write(path)
    code, out, errors = call("watch", "--history", path, good)
    assert (code, out) == (2, b"")
    assert errors.startswith(f"techo: {path!r} has a writer already; ")
    assert errors.count("\n") == 1
    file.close()


def test_a_page_that_cannot_be_is_one_line(good: str) -> None:
    """Its port is taken; watching goes on."""
    taken = good.rpartition(":")[2]
    code, out, errors = call("watch", "--for", "0.4", *QUICK, "--web", taken, good)
    assert (code, errors.count("\n")) == (0, 1)
    assert f"no page on {good}: " in errors
    assert out.decode().endswith("1 up\n")


def test_sighup_reads_the_file_again(tmp_path: Path, good: str) -> None:
    """One with a mistake changes nothing; what is on standard input stays what it was."""
    path = tmp_path / "watch.toml"
    target = f'[[target]]\nendpoint = "{good}"\ninterval = "20ms"\nname = '
    path.write_text(f'{target}"one"\n')
    named = ["--targets", "-", *QUICK, "--on-change", "false"]
    with watching("--json", "--config", str(path), *named, stdin=good.encode()) as watch:
        assert {watch.news(), watch.news()} == {("one", "up"), (good, "up")}
        failed = {watch.read(2), watch.read(2)}
        path.write_text(f'{target}"two"\n{target}"two"\nx = 1\n')
        watch.popen.send_signal(signal.SIGHUP)
        wrong = watch.read(2)
        path.write_text(f'{target}"two"\nconnect = true\n')
        watch.popen.send_signal(signal.SIGHUP)
        assert watch.read(2) == "techo: read again: 1 targets began, 1 ended\n"
        assert watch.news() == ("two", "up")
        path.write_text(f'{target}"three"\n')
        watch.popen.send_signal(signal.SIGHUP)
        assert watch.news() == ("three", "up")
        watch.popen.send_signal(signal.SIGTERM)
        out, _ = watch.popen.communicate(timeout=PATIENCE)
    assert watch.popen.returncode == 0
    assert sorted(each["target"] for each in objects(out)) == [good, "three"]
    assert f"techo: the command for a change of {good} ended with status 1\n" in failed
    assert wrong.startswith(f"techo: not read again, what runs goes on: {path}:")


def test_on_a_terminal_there_is_a_table_below_the_changes(good: str) -> None:
    """It has no line of more than 80 characters, and leaves the cursor visible at the end."""
    longest = f"tcp://{'long-name.' * 9}invalid:9"
    with on_a_terminal("watch", *QUICK, good, longest) as terminal:
        terminal.read_until("1 up")
        terminal.type(b"\x03")
        terminal.read_until("1 up\r\n")
        with contextlib.suppress(OSError):  # the terminal is gone with its process
            while data := os.read(terminal.master, 65536):
                terminal.seen += data.decode()
        assert terminal.popen.wait(PATIENCE) != 0
    shown = re.sub(r"\x1b\[[0-9?;]*[a-zA-Z]", "", terminal.seen)
    rows = [line for line in re.split("[\r\n]+", shown) if line.startswith(("target", "tcp"))]
    assert rows
    assert max(map(len, rows)) <= 80
    assert terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")


def test_json_on_a_terminal_is_not_broken(good: str) -> None:
    """There is no table, which would fold lines."""
    with on_a_terminal("watch", "--json", *QUICK, good) as terminal:
        terminal.read_until("\r\n")
        assert json.loads(terminal.seen)["state"] == "up"


@pytest.mark.parametrize("words", [["--interval", "5"], ["--down-after", "5"], ["--ipv4"]])
def test_an_option_of_targets_is_not_passed_over_where_none_is_named(
    words: list[str], tmp_path: Path
) -> None:
    """Those of the file have their own, and who gives one expects it to hold."""
    file = tmp_path / "watch.toml"
    file.write_text('[[target]]\nendpoint = "8009"\n')
    code, out, errors = call("watch", "--config", str(file), *words)
    assert (code, out) == (2, b"")
    assert errors == (
        f"techo: {words[0]} is for targets that are named; the --config has its own\n"
    )
