"""The README: everything in it works in the order in which it is read."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from documents import README, Block, blocks, command_lines, make_environment, make_program
from helpers import PATIENCE, call, free_endpoint, free_port, serving

TEXT = README.read_text()
BLOCKS = blocks(TEXT)
MOST_LINES = 200
DOORS = ("Test your program", "Measure your network", "Learn from the code")
MOST_LINES_OF_A_DOOR = 20

SLEEP = """\
import socket, time
end = time.monotonic() + {patience}
while time.monotonic() < end:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(0.2)
            try:
                sock.connect(("127.0.0.1", {port}))
                sock.send(b"?")
                if sock.recv(100):
                    raise SystemExit
            except OSError:
                time.sleep(0.02)  # another process: it does not say when it listens
raise SystemExit("nobody listens")
"""
"""Takes the place of sleep, which may be too short on a machine that is busy."""


@attrs.frozen
class Reader:
    """Somebody who enters what is printed, in one fresh folder."""

    folder: Path
    port: int
    """Takes the place of 8009, which may be taken."""
    environment: dict[str, str]

    def enter(self, block: Block) -> str:
        """Run a block to its end, which leaves nothing running; return what it printed."""
        with (
            tempfile.TemporaryFile() as output,  # which waits for nobody that is left
            subprocess.Popen(
                ["bash", "-e", "-c", block.code.replace("8009", str(self.port))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=self.environment,
                start_new_session=True,
            ) as popen,
        ):
            try:
                popen.wait(4 * PATIENCE)
            finally:
                left = True
                try:
                    os.killpg(popen.pid, signal.SIGKILL)
                except ProcessLookupError:
                    left = False
            output.seek(0)
            printed = output.read().decode()
        assert popen.returncode == 0, printed
        assert not left, block.code
        return printed

    def serve(self, block: Block) -> None:
        """Run a block that serves, and press Ctrl-C."""
        with subprocess.Popen(
            ["bash", "-e", "-c", block.code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,  # since Ctrl-C reaches the whole group
        ) as popen:
            assert popen.stdout is not None
            line = popen.stdout.readline().decode()
            assert line == f"listening on tcp://127.0.0.1:{self.port}\n"
            os.killpg(popen.pid, signal.SIGINT)
            popen.communicate(timeout=PATIENCE)
            assert popen.returncode == -signal.SIGINT

    def save(self, block: Block) -> None:
        """Save a block under the name in the line that introduces it."""
        (name,) = re.findall(r"`(test_\w+\.py)`:$", block.before)
        (self.folder / name).write_text(block.code)

    def run(self, block: Block) -> None:
        """Run a program, which prints what the comments behind `print` say."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block.code],
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        )
        shown = re.findall(r"^ *print\(.*\)  # (.*)$", block.code, re.MULTILINE)
        assert shown
        assert done.stdout.decode().splitlines() == shown


@pytest.fixture
def reader() -> Iterator[Reader]:
    """Somebody with the programs that setting up installs."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        environment = make_environment(folder) | {"TECHO_ENDPOINT": f"tcp://127.0.0.1:{port}"}
        code = SLEEP.format(port=port, patience=PATIENCE)
        sleep = f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)}\n"
        make_program(folder / ".venv" / "bin" / "sleep", sleep)
        yield Reader(folder, port, environment)


def nothing_listens(port: int) -> bool:
    """Return whether a port is as free as it was before, over TCP and UDP."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
    return True


def test_it_is_read_in_one_sitting() -> None:
    """It has at most 200 lines."""
    assert len(TEXT.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_short(door: str) -> None:
    """Below its heading it has at most 20 lines."""
    (lines,) = re.findall(rf"^## {door}\n\n(.*?)\n\n## ", TEXT, re.DOTALL | re.MULTILINE)
    assert len(lines.splitlines()) <= MOST_LINES_OF_A_DOOR


def test_every_block_works_in_order(reader: Reader) -> None:
    """Pasted one after the other, the blocks do what is said, and leave nothing running."""
    output = ""
    for block in BLOCKS:
        if block.language == "python" and "def test_" in block.code:
            reader.save(block)
        elif block.language == "python":
            reader.run(block)
        elif block.code.rstrip().endswith("-m techo"):
            reader.serve(block)
        elif block.language == "sh" and "## Develop" not in TEXT.partition(block.code)[0]:
            if ".venv/bin/activate" in block.code:
                path = f"{reader.folder}/.venv/bin:{reader.environment['PATH']}"
                reader.environment["PATH"] = path
            output += reader.enter(block)
            assert nothing_listens(reader.port)
        else:
            assert block.language == "text" or "nox -s" in block.code
    assert re.search(r"^\[\w{3} \w{3} [\d ]\d [\d:]{8} \d{4}\] hello$", output, re.MULTILINE)
    assert re.search(r"^back-pressure +pass ", output, re.MULTILINE)
    assert "\n3 sent, 3 received" in output
    assert re.search(r" round trips in ", output)
    assert "1 passed" in output
    assert "good enough" in output
    assert "rm: " not in output  # there was a report, and it is gone again
    assert not (reader.folder / "load.json").exists()
    asked = (reader.folder / "asked.txt").read_text().splitlines()
    assert asked == [
        "pip install --quiet .",
        "pip install --quiet nox[uv]",
        "nox",
        "pip install --quiet pytest pytest-trio",
    ]


def test_ci_runs_the_command_that_the_readme_has() -> None:
    """The line that CI looks for is there once."""
    ci = (README.parent / ".ci" / "run").read_text()
    (pattern,) = re.findall(r"grep -E '(.*?)' README\.md", ci)
    assert len(re.findall(pattern, TEXT, re.MULTILINE)) == 1


def test_every_session_of_nox_exists() -> None:
    """What the README says of developing can be run, and nothing is left out."""
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)", NOXFILE, re.MULTILINE))
    (block,) = [each for each in BLOCKS if "nox -s" in each.code]
    named = set[str]()
    for line in command_lines(block):
        words = line.split()
        assert words[0] == "nox"
        named.update(word.partition("-")[0] for word in words[2:3])
    assert named <= sessions
    assert sessions - named <= {"lint", "types", "coverage"}  # the usual, and what CI has


NOXFILE = (README.parent / "noxfile.py").read_text()


def test_the_systems_it_is_tested_on_are_those_of_the_classifiers() -> None:
    """README, classifiers and CI have the same Pythons, and Linux."""
    pyproject = (README.parent / "pyproject.toml").read_text()
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', pyproject)
    *most, last = versions
    assert f"tested on Linux, with Python {', '.join(most)} and {last}." in TEXT
    assert '"Operating System :: POSIX :: Linux"' in pyproject


@pytest.mark.parametrize("command", ["ping", "load", "check", "talk"])
def test_who_reaches_nobody_exits_with_2(command: str) -> None:
    """As the table of exit codes has it, and so does wrong usage."""
    endpoint = free_endpoint("tcp")
    short = {"ping": ["-n", "1"], "load": ["-n", "1"]}.get(command, [])
    assert call(command, *short, endpoint)[0] == 2
    assert call(command, "--no-such-option")[0] == 2


def test_the_table_of_exit_codes_is_true() -> None:
    """What is 1 and 0 by the table is so."""
    with serving("--fault", "lengthen=1") as process, contextlib.ExitStack():
        port = str(process.port)
        assert call("check", "--skip", "back-pressure", port)[0] == 1
        assert call("load", "-n", "1", port)[0] == 1
        assert call("ping", "-n", "1", port)[0] == 1
    with serving() as process:
        port = str(process.port)
        assert call("ping", "-n", "1", port)[0] == 0
        assert call("ping", "-n", "1", "--fail-if", "received>0", port)[0] == 1
        assert call("load", "-n", "1", "--fail-if", "received>0", port)[0] == 1
        assert process.finish(signal.SIGINT)[0] == -signal.SIGINT
