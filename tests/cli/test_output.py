"""Standard output: its errors are its own, and every encoding and text survives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entering import entered
from helpers import PATIENCE, call, command, free_endpoint, run, serving
from histories import BEGIN, span, write
from techo._checking.names import CHECK_NAMES

QUICK = [word for name in CHECK_NAMES if name != "1-byte" for word in ("--skip", name)]

CLIENTS = {
    "check": QUICK,
    "check --json": QUICK,
    "ping": ["-c", "2", "-i", "0.01"],
    "ping --json": ["-c", "2", "-i", "0.01"],
    "load": ["-n", "20"],
    "load --json": ["-n", "20"],
    "talk": [],
}
"""Every command that asks a server, with what makes it short."""


def shell(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a script, as its positional parameters."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *command(*arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        input="hello",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@pytest.fixture(scope="session")
def saved(port: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a report, beside which there is a history."""
    name = str(tmp_path_factory.mktemp("reports") / "a.json")
    assert call("load", "-n", "20", "--output", name, port)[0] == 0
    write(name + ".db", [span(BEGIN, 5000, target="wéb")])
    return name


def arguments_of(name: str, port: str, saved: str) -> list[str]:
    """Return the command line of a command that is over soon."""
    if name.startswith("merge"):
        return [*name.split(), saved]
    if name.startswith("history"):
        return [*name.split(), saved + ".db"]
    return [*name.split(), *CLIENTS[name], port]


COMMANDS = [*CLIENTS, "merge", "merge --json", "history", "history --json"]
NOT_TALK = [name for name in COMMANDS if name != "talk"]
"""Those that need no standard input."""
FULL = "techo: cannot write to standard output: No space left on device\n"


def full() -> int:
    """Return a descriptor to which nothing can be written."""
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("name", NOT_TALK)
def test_a_full_disk_is_one_of_our_output(name: str, port: str, saved: str) -> None:
    """It says so, and nothing about the server."""
    assert entered(full(), *arguments_of(name, port, saved)) == (1, FULL)


@pytest.mark.parametrize("name", NOT_TALK)
def test_a_reader_that_leaves_is_no_fault_of_the_server(
    name: str, port: str, saved: str
) -> None:
    """Not a word, as of other programs in front of ``head``."""
    reading, writing = os.pipe()
    os.close(reading)
    assert entered(writing, *arguments_of(name, port, saved)) == (1, "")


@pytest.mark.parametrize("name", ["load", "talk"])
def test_the_interpreter_does_not_complain_of_output_on_its_way_out(
    name: str, port: str, saved: str
) -> None:
    """It flushes once more, where a process ends."""
    arguments = arguments_of(name, port, saved)
    done = shell('"$@" >/dev/full', *arguments)
    assert (done.returncode, done.stderr) == (1, FULL)
    done = shell('exec 3> >(exec true); wait $!; "$@" >&3', *arguments)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", ["", "check", "history", "load", "merge", "ping", "talk"])
@pytest.mark.parametrize("where", ["help", "version"])
def test_help_needs_output_too(name: str, where: str) -> None:
    """The help and the version of every command."""
    assert entered(full(), *name.split(), f"--{where}") == (1, FULL)


@pytest.mark.parametrize("name", ["ping", "load", "check", "talk"])
def test_errors_that_nobody_can_read_change_no_exit_status(name: str) -> None:
    """With a standard error that takes nothing, the exit status is still that of the error."""
    options = {"load": ["-n", "1", "-W", "0.1"], "ping": ["-c", "1"]}.get(name, [])
    done = shell('"$@" 2>/dev/full', name, *options, free_endpoint("tcp"))
    assert done.returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "utf-16"])
@pytest.mark.parametrize("name", NOT_TALK)
def test_every_encoding_survives(
    name: str, encoding: str, port: str, saved: str, tmp_path: Path
) -> None:
    """The exit status is what it is over UTF-8, and nothing is a traceback."""
    path = tmp_path / "out"
    out = os.open(path, os.O_WRONLY | os.O_CREAT)
    assert entered(out, *arguments_of(name, port, saved), encoding=encoding) == (0, "")
    assert path.stat().st_size


@pytest.mark.parametrize("encoding", ["ascii:strict", "utf-16"])
def test_talk_survives_the_encoding_of_its_process(encoding: str, port: str) -> None:
    """It prints bytes, as they are."""
    code, out, err = run(
        "talk", port, stdin=b"h\xff", environment={"PYTHONIOENCODING": encoding}
    )
    assert (code, err) == (0, "")
    assert out.endswith(b"] h\xff")


def test_bars_are_plain_where_there_are_no_lines(port: str) -> None:
    """The histogram of load is drawn with what the encoding has."""
    environment = {"PYTHONIOENCODING": "ascii"}
    out = run("load", "-n", "20", port, environment=environment)[1].decode("ascii")
    assert "##########" in out
    assert "\\u" not in out


def test_a_name_that_is_no_utf_8_survives(tmp_path: Path, port: str) -> None:
    """As the name of a report, of a Unix path, and of what is not there."""
    strange = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b\n")
    assert call("load", "-n", "5", "--output", strange, port)[0] == 0
    assert call("merge", strange)[0] == 0
    for arguments in (["merge", strange + "?"], ["merge", str(tmp_path)], ["ping", strange]):
        code, _, err = call(*arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert err.rstrip("\n").isprintable()
    code, _, err = run(f"unix:{strange}")
    assert code == 2
    assert err.rstrip("\n").isprintable()


def test_reports_from_a_pipe_are_utf_8(saved: str) -> None:
    """Whatever the encoding of the terminal is."""
    report = json.loads(Path(saved).read_text())
    report["endpoint"] = "tcp://käse:1"
    text = json.dumps(report, ensure_ascii=False).encode()
    code, out, err = run("merge", "-", stdin=text, environment={"PYTHONIOENCODING": "ascii"})
    assert (code, err) == (0, "")
    assert b"tcp://k\\xe4se:1" in out


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_log_line_is_one_line(form: str, tmp_path: Path) -> None:
    """Whatever a peer calls itself, and whatever systemd is said to have passed."""
    environment = {"NOTIFY_SOCKET": f"{tmp_path}/\x1b]0;title\x07\nfake line"}
    with serving("--log-format", form, environment=environment) as process:
        _, _, err = process.finish()
    assert "cannot notify" in err
    assert all(line.isprintable() for line in err.splitlines())
    assert not any(line.startswith("fake") for line in err.splitlines())
