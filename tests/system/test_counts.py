"""What load says that it did, against what servers have counted, ours and theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from helpers import PATIENCE, free_port, needs, run, running, serving, until_answering

LOAD = ["-c", "20", "-n", "2000", "-s", "777", "--pipeline", "3", "--json"]
TRIPS = 2000
BYTES = TRIPS * 777


def load(endpoint: str) -> dict[str, Any]:
    """The report of a load that must be without an error."""
    code, out, err = run("load", endpoint, *LOAD)
    assert (code, err) == (0, "")
    report: dict[str, Any] = json.loads(out)
    return report


@pytest.mark.parametrize("kind", ["tcp://127.0.0.1:0", "unix:@{}", "unixpacket:@{}"])
def test_techo_has_counted_the_same(kind: str) -> None:
    """Connections and bytes, each way."""
    with serving("--reply", "raw", kind.format(f"counts-{os.getpid()}")) as process:
        report = load(str(process.endpoints[0]))
        counted = process.statistics()
    assert (report["received"], report["received_bytes"], report["reconnects"]) == (
        TRIPS,
        BYTES,
        0,
    )
    assert (counted["accepted"], counted["received_bytes"], counted["sent_bytes"]) == (
        20,
        BYTES,
        BYTES,
    )


def test_uvloop_has_counted_the_same() -> None:
    """Connections and bytes; it is as independent a server as there is."""
    if not os.environ.get("CI"):
        pytest.importorskip("uvloop")
    script = Path(__file__).parent / "uvloop_server.py"
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as popen:
        try:
            assert popen.stdout is not None
            report = load(popen.stdout.readline().decode().strip())
            popen.terminate()
            counted = popen.stdout.read().split()
            assert popen.wait(PATIENCE) == 0
        finally:
            popen.kill()
    assert (report["received"], report["received_bytes"]) == (TRIPS, BYTES)
    assert list(map(int, counted)) == [20, BYTES]


def test_socat_has_seen_the_same_bytes(tmp_path: Path) -> None:
    """All that it echoed is in a file, by way of tee(1), and there are as many of them."""
    seen, port = tmp_path / "seen", free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=50"
    with running([needs("socat"), listen, f"SYSTEM:tee -a {seen}"]):
        trio.run(until_answering, f"tcp://127.0.0.1:{port}")
        before = seen.stat().st_size
        report = load(f"127.0.0.1:{port}")
    assert (report["received"], report["received_bytes"]) == (TRIPS, BYTES)
    assert seen.stat().st_size - before == BYTES
