"""SIGHUP: it ends a command as SIGTERM does, unless it was ignored at the start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from helpers import PATIENCE, command, serving, started, wait_until
from terminals import on_a_terminal

IGNORING = ["env", "--ignore-signal=HUP"]


def test_a_server_leaves_no_path(tmp_path: Path) -> None:
    """It drains, and its exit status is that of any drain."""
    path = tmp_path / "s"
    with serving(f"unix:{path}") as process:
        assert path.exists()
        code, _, _ = process.finish(signal.SIGHUP)
    assert code == 0
    assert not path.exists()


@pytest.mark.parametrize("name", ["load", "ping"])
def test_a_measurement_is_delivered(port: str, name: str, tmp_path: Path) -> None:
    """What was measured until then is in the report or the summary."""
    file = tmp_path / "report"
    options = ["-d", "100", "--output", str(file)] if name == "load" else ["-i", "0.01"]
    with started(name, *options, port) as popen:
        assert popen.stdout is not None
        if name == "ping":
            popen.stdout.readline()
        else:  # which has no output until it is over
            status = Path(f"/proc/{popen.pid}/status")
            wait_until(lambda: handles_hangup(status), "it never asked for SIGHUP")
        popen.send_signal(signal.SIGHUP)
        out, err = popen.communicate(timeout=PATIENCE)
    assert popen.returncode in {0, 1}  # 1 if nothing had come back yet
    assert b"lost" in out
    assert b"Traceback" not in err
    if name == "load":
        assert json.loads(file.read_text())["event"] == "summary"


def handles_hangup(status: Path) -> bool:
    """Return whether a process has a handler for SIGHUP."""
    caught = next(each for each in status.read_text().splitlines() if "SigCgt" in each)
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGHUP - 1))


def test_nohup_is_heeded(tmp_path: Path) -> None:
    """A server that was started with SIGHUP ignored goes on after it."""
    with serving(f"unix:{tmp_path}/s", prefix=IGNORING) as process:
        process.popen.send_signal(signal.SIGHUP)
        assert process.statistics()["accepted"] == 0
        assert process.finish(signal.SIGTERM)[0] == 0


def test_nohup_is_heeded_by_ping(port: str) -> None:
    """All its probes are sent."""
    with subprocess.Popen(
        [*IGNORING, *command("ping", "-c", "20", "-i", "0.01", port)],
        stdout=subprocess.PIPE,
        env=os.environ,
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        popen.send_signal(signal.SIGHUP)
        out, _ = popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 0
    assert b"20 sent, 20 received" in out


def test_a_terminal_that_is_closed_costs_no_report(port: str, tmp_path: Path) -> None:
    """Neither its SIGHUP nor what can no longer be drawn on it does."""
    file = tmp_path / "report"
    with on_a_terminal("load", "-d", "100", "--output", str(file), port) as terminal:
        terminal.read_until("/s, p99")
        os.close(terminal.master)
        terminal.master = os.open(os.devnull, os.O_RDONLY)
        terminal.popen.wait(PATIENCE)
    assert json.loads(file.read_text())["received"] > 0
