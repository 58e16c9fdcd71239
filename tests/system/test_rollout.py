"""A rollout: every server is restarted under load, behind a real HAProxy or by --workers."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from balancers import adapted, balancing, options_of_servers
from helpers import (
    PATIENCE,
    Process,
    command,
    free_port,
    serving,
    until_answering,
    wait_until,
)

TIMES = 10
"""How often each server is restarted."""

CHANCES = 3
"""HAProxy passes on a reply and the end that came with it by two calls. If it has to wait for
the processor in between, a client that is late itself can send its next message there."""

OFTEN = ("-r", "500", "-c", "10")
"""Fifty messages a second on each connection."""

SELDOM = ("-r", "5", "-c", "10")
"""One in two seconds: less than the four in one second that lose nothing."""


@contextmanager
def loading(endpoint: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a load that goes on until it is asked for its report."""
    words = command("load", "--json", "-d", "1h", *options, endpoint)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as load:
        try:
            yield load
        finally:
            load.kill()


def report(load: subprocess.Popen[bytes]) -> dict[str, Any]:
    """End a load, which waits for what is in flight, and return its report."""
    load.send_signal(signal.SIGINT)
    out, _ = load.communicate(timeout=PATIENCE)
    found: dict[str, Any] = json.loads(out)
    return found


@attrs.define
class Rollout:
    """Two techo behind HAProxy, each of which can be restarted where it was."""

    front: str
    options: dict[str, list[str]]
    """Of the servers, by the names that they have in the recipe."""
    log: Path
    """What HAProxy says."""
    servers: dict[str, Process]
    stack: ExitStack

    def restart(self, name: str, number: signal.Signals) -> None:
        """Signal a server, and start it again when it is over and HAProxy knows."""
        downs, ups = self.heard(name, "DOWN"), self.heard(name, "UP")
        popen = self.servers[name].popen
        popen.send_signal(number)
        assert popen.wait(PATIENCE) == (0 if number == signal.SIGTERM else -number)
        wait_until(lambda: self.heard(name, "DOWN") > downs, "it is not missed")
        self.servers[name] = self.stack.enter_context(serving(*self.options[name]))
        wait_until(lambda: self.heard(name, "UP") > ups, "it is not used again")

    def heard(self, name: str, state: str) -> int:
        """Return how often HAProxy has said that a server has come into a state."""
        return self.log.read_text().count(f"Server echo/{name} is {state}")


@pytest.fixture
def rollout(tmp_path: Path) -> Iterator[Rollout]:
    """Run the recipe, ten times as fast: its checks, and what techo waits for them."""
    front = f"127.0.0.1:{free_port()}"
    text = adapted("haproxy.cfg", front, lame_duck=1)
    text = text.replace("inter 1s fall 2 rise 2", "inter 100ms fall 2 rise 2")
    options = dict(zip(("one", "two"), options_of_servers(text), strict=True))
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(serving(*words)) for name, words in options.items()
        }
        log = stack.enter_context(balancing("haproxy", text, tmp_path))
        yield Rollout(front, options, log, servers, stack)


async def test_restarts_by_sigterm_lose_no_trip(rollout: Rollout) -> None:
    """Not one of a steady load, over connections that are all made new again and again.

    What is sent seldom may be lost, if at all by a connection that was ended silent.
    """
    await until_answering(rollout.front)
    for _ in range(CHANCES):
        with loading(rollout.front, *OFTEN) as often, loading(rollout.front, *SELDOM) as seldom:
            for _ in range(TIMES):
                for name in rollout.servers:
                    rollout.restart(name, signal.SIGTERM)
            found, other = report(often), report(seldom)
        assert found["reconnects"] >= 2 * TIMES
        assert other["lost"] <= other["reconnects"]
        if not found["lost"]:
            break
    assert (found["lost"], found["failures"]) == (0, {})


async def test_restarts_by_sigkill_lose_what_was_in_flight(rollout: Rollout) -> None:
    """At most one trip of a connection, which had one at a time, and by its end or a reset."""
    await until_answering(rollout.front)
    with loading(rollout.front, *OFTEN) as load:
        for _ in range(TIMES):
            for name in rollout.servers:
                rollout.restart(name, signal.SIGKILL)
        found = report(load)
    assert found["lost"] <= found["reconnects"]
    assert set(found["failures"]) <= {"eof", "reset"}
    assert found["reconnects"] >= 2 * TIMES


def wait_for_reloads(process: Process, count: int) -> None:
    """Wait until all workers were replaced so often."""
    wait_until(lambda: process.read_log().count("reloaded 2 workers") == count, "no reload")


def test_reloads_of_workers_lose_no_trip() -> None:
    """Without a balancer: all workers are replaced, again and again."""
    with (
        serving("--workers", "2", "--reply", "raw", prefix=("setsid",)) as process,
        loading(str(process.endpoints[0]), *OFTEN) as often,
        loading(str(process.endpoints[0]), *SELDOM) as seldom,
    ):
        for count in range(1, TIMES + 1):
            process.popen.send_signal(signal.SIGHUP)
            wait_for_reloads(process, count)
        found, other = report(often), report(seldom)
        assert process.finish()[0] == 0
    assert (found["lost"], found["failures"]) == (0, {})
    assert found["reconnects"] >= TIMES
    assert other["lost"] <= other["reconnects"]
