"""techo watch with real servers that appear, vanish, hang, flap and lie, and stand still."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import PATIENCE, Process, call, free_endpoint, serving, wait_until
from watching import Watching, watching

INTERVAL, TIMEOUT = 0.05, 1.0

DEFAULTS = f"""
[defaults]
interval = {INTERVAL}
timeout = {TIMEOUT}
flap-time = 5
"""

STANDS_STILL = 5.0
"""Seconds: many intervals, and several timeouts."""


CLOCKS_APART = 10**7
"""Nanoseconds between two looks at two clocks."""


def config(path: Path, **endpoints: str) -> str:
    """Write a file of targets; return its name."""
    texts = [
        f'[[target]]\nname = "{name}"\nendpoint = "{it}"' for name, it in endpoints.items()
    ]
    path.write_text("\n".join([DEFAULTS, *texts, ""]))
    return str(path)


@contextlib.contextmanager
def still(popen_id: int) -> Iterator[None]:
    """Have a process stand still for a block."""
    os.kill(popen_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(popen_id, signal.SIGCONT)


def finish(watch: Watching) -> dict[str, dict[str, Any]]:
    """End a watch; check that its changes fit together, and return the last of each target."""
    watch.popen.send_signal(signal.SIGTERM)
    out, errors = watch.popen.communicate(timeout=PATIENCE)
    assert watch.popen.returncode in (0, 1), errors
    lines = [json.loads(line) for line in out.splitlines()]
    watch.changes += [each for each in lines if each["event"] == "change"]
    state: dict[str, str] = defaultdict(lambda: "unknown")
    for each in watch.changes:
        assert each["before"] == state[each["target"]]
        state[each["target"]] = each["state"]
        if each["ended"] is not None:
            assert each["ended"]["duration_ns"] >= 0
            assert each["ended"]["to_ns"] <= each["at_ns"] + CLOCKS_APART
    last = {each["target"]: each for each in lines if each["event"] == "target"}
    assert {name: each["state"] for name, each in last.items() if name in state} == state
    for each in last.values():
        total = each["total"]
        assert each["sent"] >= total["received"] + total["lost"]
        assert total["lost"] == sum(total["failures"].values())
    return last


def seconds_down(change: dict[str, Any]) -> float:
    """Return how long an outage was that is over."""
    assert change["ended"]["kind"] == "down"
    duration: int = change["ended"]["duration_ns"]
    return duration / 1e9


def flap(watch: Watching, server: Process) -> None:
    """Have a server stand still again and again, until that is flapping."""
    while True:
        with still(server.popen.pid):
            state = watch.until("flaps", "down")["state"]
        while state not in ("up", "flapping"):
            target, state = watch.news()
            state = state if target == "flaps" else "down"
        if state == "flapping":
            return


def test_an_hour_of_targets_in_a_minute(tmp_path: Path) -> None:
    """Each is what it is, with its cause; who is well has no part in what others go through."""
    late = free_endpoint("tcp")
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        names = {"steady": (), "vanishes": (), "flaps": (), "datagrams": ("udp://127.0.0.1:0",)}
        lies = {"corrupt": "corrupt=100%", "truncate": "truncate=10"}
        faults = {name: ("--fault", text) for name, text in lies.items()}
        servers = {
            name: stack.enter_context(serving(*arguments))
            for name, arguments in {**names, **faults}.items()
        }
        endpoints = {name: str(each.endpoints[0]) for name, each in servers.items()}
        places = {
            **endpoints,
            "never": free_endpoint("tcp"),
            "appears": late,
            "silent": f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            "nameless": "tcp://nobody.invalid:9",
        }
        file = config(tmp_path / "watch.toml", **places)
        watch = stack.enter_context(watching("--json", "--config", file))
        first = dict(watch.news() for _ in places)
        assert {name for name, state in first.items() if state == "up"} == {
            "steady",
            "vanishes",
            "flaps",
            "datagrams",
        }
        begun = time.time()
        servers["vanishes"].finish(signal.SIGKILL)
        down = watch.until("vanishes", "down")
        assert down["began"]["from_ns"] / 1e9 >= begun - INTERVAL - TIMEOUT
        stack.enter_context(serving(late))
        up = watch.until("appears", "up")
        assert (up["ended"]["cause"], up["before"]) == ("refused", "down")
        flap(watch, servers["flaps"])
        assert watch.until("flaps", "up")["ended"]["kind"] == "flapping"
        last = finish(watch)
    causes = {name: {*each["total"]["failures"]} for name, each in last.items()}
    assert causes["steady"] == causes["datagrams"] == set()
    assert causes["never"] == causes["appears"] == {"refused"}
    assert causes["silent"] == {"timeout-reply"}
    assert causes["nameless"] == {"dns"}
    assert causes["corrupt"] == {"corrupt"}
    assert causes["truncate"] <= {"eof", "reset", "short", "timeout-reply"}
    assert "refused" in causes["vanishes"]
    assert last["appears"]["total"]["down_seconds"] == pytest.approx(seconds_down(up))


def test_a_server_that_stands_still_was_down_for_as_long(tmp_path: Path) -> None:
    """To an interval; and over when the first probe was sent that came back in time."""
    with serving() as server:
        file = config(tmp_path / "watch.toml", it=str(server.endpoints[0]))
        with watching("--json", "--config", file) as watch:
            watch.until("it", "up")
            begun = time.monotonic()
            with still(server.popen.pid):
                watch.until("it", "down")
                # How long it stands still is what is asked for.
                time.sleep(max(0.0, begun + STANDS_STILL - time.monotonic()))
            up = watch.until("it", "up")
            took = time.monotonic() - begun
            last = finish(watch)["it"]
    assert STANDS_STILL - TIMEOUT - 2 * INTERVAL <= seconds_down(up) <= took
    assert up["ended"]["cause"] == "timeout-reply"
    assert last["total"]["down_seconds"] == pytest.approx(seconds_down(up))


def test_a_watch_that_stands_still_makes_nothing_up(tmp_path: Path) -> None:
    """What was due meanwhile is missed, of who is well as of who is down."""
    with serving("udp://127.0.0.1:0", "tcp://127.0.0.1:0", sockets=2) as server:
        udp, tcp = map(str, server.endpoints)
        file = config(tmp_path / "watch.toml", tcp=tcp, udp=udp, gone=free_endpoint("tcp"))
        with watching("--json", "--config", file) as watch:
            assert len({watch.news() for _ in range(3)}) == 3
            with still(watch.popen.pid):
                time.sleep(STANDS_STILL)  # that is what is asked for
            begun = len(watch.changes)
            time.sleep(1)  # for what would come now, and must not
            last = finish(watch)
            assert watch.changes[begun:] == []
    for name in ("tcp", "udp"):
        assert last[name]["total"]["lost"] == 0
    for each in last.values():
        assert each["missed"] * INTERVAL >= STANDS_STILL - 2 * INTERVAL - TIMEOUT
    gone = last["gone"]["total"]
    assert gone["received"] == 0
    assert last["gone"]["sent"] <= last["tcp"]["sent"] + (TIMEOUT + 1) / INTERVAL


def reported(path: str) -> list[dict[str, Any]]:
    """Return the changes that a history has."""
    code, out, errors = call("history", path, "--json")
    if code:
        assert "no such" in errors.lower() or "nothing" in errors.lower(), errors
        return []
    lines = [json.loads(line) for line in out.splitlines()]
    return [each for each in lines if each["event"] == "change"]


def test_a_killed_watch_leaves_a_history_and_another_goes_on(tmp_path: Path) -> None:
    """What was written is there, and the file has no writer any more."""
    path = str(tmp_path / "history.db")
    with serving() as server:
        endpoint = str(server.endpoints[0])
        keep = ["--json", "--history", path, "--config"]
        file = config(tmp_path / "watch.toml", it=endpoint)
        with watching(*keep, file) as watch:
            watch.until("it", "up")
            server.finish(signal.SIGKILL)
            watch.until("it", "down")
            wait_until(lambda: len(reported(path)) == 2, "the history has not both changes")
            watch.popen.kill()
            watch.popen.wait(PATIENCE)
        assert reported(path) == watch.changes
        with serving(endpoint), watching(*keep, file) as again:
            again.until("it", "up")
            finish(again)
    assert reported(path) == [*watch.changes, *again.changes]
