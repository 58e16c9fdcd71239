"""Process 1 of a container, for which the kernel ignores signals that it does not handle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import PATIENCE, command, needs, serving, wait_until


@contextlib.contextmanager
def first(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command as process 1, and find out its number outside."""
    prefix = [needs("unshare"), "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    with subprocess.Popen(
        [*prefix, *command(*arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as popen:
        children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children")
        wait_until(lambda: children.read_text().split(), "unshare has not forked")
        try:
            yield popen, int(children.read_text())
        finally:
            popen.kill()


def handles(process: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = next(each for each in lines if each.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << (number - 1))


ENDLESS = {
    "serve": ["tcp://127.0.0.1:0"],
    "ping": ["-i", "0.01"],
    "load": ["-d", "100"],
    "check": ["--patience", "100"],
    "talk": [],
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ENDLESS)
def test_signals_are_heard(name: str, number: signal.Signals) -> None:
    """By every command, whose exit status is as documented: for others' and our own ends."""
    with serving("--fault", "stall=0" if name in {"check", "talk"} else "delay=0ms") as server:
        endpoint = [] if name == "serve" else [str(server.endpoints[0])]
        with first(name, *ENDLESS[name], *endpoint) as (popen, process):
            wait_until(lambda: handles(process, number), "no handler")
            assert popen.stdout is not None
            if name in {"serve", "ping"}:
                popen.stdout.readline()
            elif name == "load":
                assert popen.stderr is not None
                wait_until(lambda: server.counters()["chunks"] > 0, "no load")
            else:
                wait_until(lambda: server.counters()["accepted"] > 0, "no connection")
            os.kill(process, number)
            assert popen.wait(PATIENCE) == expected(name, number)


def expected(name: str, number: int) -> int:
    """Return the exit status that a shell would see."""
    if name in {"check", "talk"} or number == signal.SIGINT:
        return 128 + number
    return 0
