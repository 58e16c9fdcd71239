"""serve --workers: the option, one worker in the tests' own process, and all of it once."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from helpers import PATIENCE, call, dial, receive_exactly, serving, wait_until
from schemas import kind_of
from techo._cli.parsing import parse
from techo._cli.serve import COMMAND
from techo._cli.worker import _Worker, command_line, divide
from techo._cli.workers import read_workers
from techo._operate.processes import Channel
from techo.endpoint import Endpoint, Kind


def options(*arguments: str) -> argparse.Namespace:
    """Return what serve is given."""
    return parse(COMMAND, arguments, {})


def test_how_many_there_are() -> None:
    """A number, as many as there are cores that this process may use, or none."""
    assert read_workers("3") == 3
    assert read_workers("auto") == len(os.sched_getaffinity(0))
    assert read_workers("off") is None
    for text in ("0", "1001", "-1", "two", ""):
        with pytest.raises(ValueError, match="is not a number from 1 to 1,000, auto or off"):
            read_workers(text)


def test_totals_are_divided_and_limits_by_address_are_not() -> None:
    """What has not enough for each is refused before anything is served."""
    given = ("--max-connections", "5", "--max-per-host", "4", "--max-connects-per-second", "9")
    one, other = options(*given), options(*given)
    divide(one, 0, 2)
    divide(other, 1, 2)
    assert (one.max_connections, other.max_connections) == (3, 2)
    assert (one.max_connects_per_second, other.max_connects_per_second) == (5, 4)
    assert (one.max_parked, one.max_handshakes) == (500, 500)
    assert one.max_per_host == other.max_per_host == 4
    code, _, err = call("--workers", "2", "--max-connections", "1", "tcp://127.0.0.1:0")
    assert (code, err) == (
        2,
        "techo: --max-connections 1 cannot be divided among 2 workers: give 2 or more\n",
    )


def test_a_worker_is_given_what_the_server_was() -> None:
    """Its arguments, where its modules are, its number, its sockets and its channel."""
    given = options("--workers", "2", "--reply", "raw", "udp://:1")
    places = [Endpoint.parse("fd:5"), Endpoint.parse("tls+fd:6")]
    line = command_line(given.arguments, 2, 1, places, 9)
    assert line[3:6] == ["1/2", "9", "fd:5 tls+fd:6"]
    assert options(*line[6:]).reply == "raw"


@attrs.define(eq=False)
class Parent:
    """What a worker in this process is told by, and where it listens."""

    channel: Channel
    address: tuple[str, int]
    over: trio.Event = attrs.field(factory=trio.Event)

    async def receive(self) -> dict[str, Any]:
        """Wait for a message."""
        with trio.fail_after(PATIENCE):
            found = await self.channel.receive()
        assert found is not None
        return dict(found)

    async def report(self, number: int) -> dict[str, Any]:
        """Ask for a report."""
        await self.channel.send({"do": "report", "number": number})
        while (found := await self.receive())["answers"] != number:
            pass  # it reports once a second besides
        statistics: dict[str, Any] = found["report"]["statistics"]
        return statistics


@contextlib.asynccontextmanager
async def working(*arguments: str) -> AsyncIterator[Parent]:
    """Run a worker for a block, at whose end it has to be over."""
    ours, theirs = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    parent = Parent(Channel.of(ours), listener.getsockname())
    place = Endpoint(kind=Kind.FD, descriptor=listener.detach())
    worker = _Worker(options(*arguments), [place], theirs)

    async def run() -> None:
        await worker.run()
        parent.over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield parent
            await parent.over.wait()
    parent.channel.close()


async def test_a_worker_reports_when_asked_and_drains_when_told() -> None:
    """Its last report comes when its connections are over."""
    async with working("--reply", "raw") as parent:
        assert (await parent.receive())["ready"]
        async with await trio.open_tcp_stream(*parent.address) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            found = await parent.report(1)
            assert (found["active"], found["bytes_in"]) == (1, 5)
            await parent.channel.send({"do": "drain"})
            assert await stream.receive_some() == b""
        while (last := await parent.receive())["report"]["statistics"]["active"]:
            pass
        assert last["report"]["statistics"]["outcomes"]["drained"] == 1


async def test_a_worker_that_is_told_to_stop_aborts_what_it_has() -> None:
    """At once, and it says so."""
    async with working("--drain-timeout", "off") as parent:
        assert (await parent.receive())["ready"]
        async with await trio.open_tcp_stream(*parent.address) as stream:
            await stream.send_all(b"hello")
            await stream.receive_some()
            await parent.channel.send({"do": "stop"})
            await parent.over.wait()
        while (found := await parent.receive())["report"]["statistics"]["active"]:
            pass
        assert found["report"]["statistics"]["outcomes"]["aborted"] == 1


async def test_a_worker_whose_parent_is_gone_drains() -> None:
    """It is left with nobody to govern it, and ends as if it had been told to."""
    async with working() as parent:
        assert (await parent.receive())["ready"]
        async with await trio.open_tcp_stream(*parent.address) as stream:
            await stream.send_all(b"hello")
            await stream.receive_some()
            parent.channel.close()
            assert await stream.receive_some() == b""


async def test_a_worker_that_cannot_start_says_why() -> None:
    """The parent reports it."""
    async with working("--fault", "drop=100%") as parent:
        assert "drop" in (await parent.receive())["failure"]


def test_two_processes_are_one_server(tmp_path: Path) -> None:
    """Each endpoint is one line, what all have counted one sum, and faults are those of all."""
    places = ["tcp://127.0.0.1:0", f"unixpacket:{tmp_path}/s"]
    faults = tmp_path / "faults"
    faults.write_text("")
    options = ["--workers", "2", "--log-format", "json", "--reply", "raw"]
    options += ["--fault-file", str(faults)]
    with serving(*options, *places, sockets=2) as process:
        socks = [dial(process) for _ in range(12)]
        for _ in range(3):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(f"{tmp_path}/s")
            socks.append(sock)
        for sock in socks:
            sock.sendall(b"hello")
        for sock in socks:
            assert receive_exactly(sock, 5) == b"hello"
        found = process.counters()
        assert (found["accepted"], found["active"], found["received_bytes"]) == (15, 15, 75)
        faults.write_text("lengthen=1")
        process.popen.send_signal(signal.SIGUSR2)
        wait_until(lambda: process.read_log().count("1 fault from") == 3, "all have read them")
        socks.append(dial(process))
        socks[-1].sendall(b"hello")
        assert len(receive_exactly(socks[-1], 6)) == 6
        process.popen.send_signal(signal.SIGTERM)
        for sock in socks:
            assert sock.recv(1) == b""
            sock.close()
        code, out, log = process.finish(None)
    assert (code, out) == (0, "")
    assert not (tmp_path / "s").exists()
    lines = [json.loads(line) for line in log.splitlines()]
    assert {kind_of(line) for line in lines} >= {"log_connected", "log_closed", "log_total"}
    assert {line.get("worker") for line in lines if line["event"] == "starting"} == {1, 2}
    (total,) = (line for line in lines if line["event"] == "total" and "worker" not in line)
    assert (total["accepted"], total["outcomes"]["drained"]) == (16, 16)
