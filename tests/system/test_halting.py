"""A server that stands still, as a process that the system has stopped."""

from __future__ import annotations

import json
import signal
import time

from helpers import PATIENCE, serving, started, wait_until


def test_a_server_that_halts_shows_in_response_time() -> None:
    """A third of the trips were due while it halted, though few were sent."""
    with serving("--reply", "raw") as process:
        arguments = ["--json", "-c", "5", "-r", "500", "-d", "3", str(process.port)]
        with started("load", *arguments) as popen:
            wait_until(lambda: process.read_log().count("connected") >= 5, "no connections")
            process.popen.send_signal(signal.SIGSTOP)
            time.sleep(1.0)  # how long it halts is what is measured
            process.popen.send_signal(signal.SIGCONT)
            out, _ = popen.communicate(timeout=PATIENCE)
        counted = process.statistics()
    found = json.loads(out)
    service, response = found["service_ns"], found["response_ns"]
    assert (popen.returncode, found["received"], found["unsent"]) == (0, 1500, 0)
    assert counted["received_bytes"] == 1500 * 64
    assert 0.8e9 < response["p99"] < 3e9
    assert response["p90"] > 0.3e9
    assert max(service["p99"], 2 * response["p50"]) < response["p90"]
    assert service["max"] > 0.8e9
    assert response["count"] == service["count"] == 1500
