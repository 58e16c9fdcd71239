"""load --processes: one process in the tests' own, and all of it with children."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import techo
from helpers import PATIENCE, call, serving, started
from techo._cli.load import COMMAND
from techo._cli.load_plan import plan_of, settle
from techo._cli.load_process import command_line, share_process
from techo._cli.parsing import parse
from techo._cli.processes import count_for
from techo._operate.processes import Channel


@attrs.define(eq=False)
class Parent:
    """What a process of a load in this one is governed by."""

    channel: Channel
    over: trio.Event = attrs.field(factory=trio.Event)

    async def receive(self) -> dict[str, Any]:
        """Wait for a message."""
        found = await self.channel.receive()
        assert found is not None
        return dict(found)

    async def last(self) -> techo.LoadReport:
        """Wait for its last report."""
        while not (found := await self.receive())["over"]:
            pass
        report = techo.LoadReport.from_json(found["report"])
        return attrs.evolve(report, outage_spans=found["spans"])


@contextlib.asynccontextmanager
async def loading(*arguments: str, silence: float = math.inf) -> AsyncIterator[Parent]:
    """Run the process of a load for a block, at whose end it has to be over."""
    ours, theirs = socket.socketpair()
    parent = Parent(Channel.of(ours))
    options = parse(COMMAND, arguments, {})
    settle(options)
    loader = share_process(options, plan_of(options), theirs)
    loader.silence = silence

    async def run() -> None:
        await loader.run()
        parent.over.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield parent
            await parent.over.wait()
    parent.channel.close()


async def test_a_process_connects_and_begins_when_it_is_told(port: str) -> None:
    """It has sent nothing before that, and its last report is of all its trips."""
    async with loading("-n", "20", "-c", "2", port) as parent:
        assert await parent.receive() == {"reached": True}
        await parent.channel.send({"do": "begin", "at": time.monotonic() + 0.01})
        report = await parent.last()
    assert (report.received, report.connections, report.unsent) == (20, 2, 0)


async def test_a_process_reports_as_it_goes_and_stops_when_it_is_told(port: str) -> None:
    """The trips in flight come back; there is no signal in it."""
    async with loading("-d", "1h", port) as parent:
        assert await parent.receive() == {"reached": True}
        await parent.channel.send({"do": "begin", "at": time.monotonic()})
        while not (found := await parent.receive())["report"]["received"]:
            assert not found["over"]
        await parent.channel.send({"do": "stop"})
        report = await parent.last()
    assert report.received
    assert (report.lost, report.in_flight) == (0, 0)


async def test_a_process_reports_when_its_outages_were() -> None:
    """JSON has no such thing; a picture of the whole load does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        async with loading("-d", "0.2", "-W", "0.1", "-r", "50", "-c", "1", port) as parent:
            assert await parent.receive() == {"reached": True}
            await parent.channel.send({"do": "begin", "at": time.monotonic()})
            report = await parent.last()
    assert report.outages == len(report.outage_spans) == 1
    ((begin, end),) = report.outage_spans
    assert end - begin == pytest.approx(report.outage_seconds)


async def test_a_process_whose_parent_is_gone_ends(port: str) -> None:
    """It is left with nobody to report to."""
    async with loading("-d", "1h", port) as parent:
        assert await parent.receive() == {"reached": True}
        await parent.channel.send({"do": "begin", "at": time.monotonic()})
        await parent.receive()
        parent.channel.close()


async def test_a_process_that_hears_nothing_stops_by_itself(port: str) -> None:
    """Its parent may stand still for ever, as that of a machine of a fleet."""
    async with loading("-d", "1h", port, silence=0.5) as parent:
        assert await parent.receive() == {"reached": True}
        await parent.channel.send({"do": "begin", "at": time.monotonic()})
        report = await parent.last()
    assert report.received
    assert (report.lost, report.in_flight) == (0, 0)


async def test_a_process_that_is_refused_says_why(port: str) -> None:
    """The parent reports it."""
    async with loading("--tls-ca", "/nonexistent", f"tls://127.0.0.1:{port}") as parent:
        assert "cannot read --tls-ca '/nonexistent'" in (await parent.receive())["failure"]


def test_a_process_is_given_what_the_load_was() -> None:
    """Its number, its channel and the arguments; nothing else is on its command line."""
    line = command_line(["--processes", "3", "-n", "9", "8009"], 3, 1, 7)
    assert line[3:] == ["1/3", "7", "--processes", "3", "-n", "9", "8009"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--processes", "11"),
            "connections 10 cannot be divided among 11: give --connections",
        ),
        (("--processes", "2", "-n", "1"), "trips 1 cannot be divided among 2: give --trips 2"),
        (
            ("--processes", "2", "-c", "2", "--source", "127.0.0.1:7"),
            "--source: a port is for one connection, and 2 are wanted",
        ),
        (("--processes", "2", "--tls-ca", "/nowhere"), "--tls-ca is for tls endpoints"),
    ],
    ids=["connections", "trips", "source", "tls"],
)
def test_what_cannot_be_divided_is_refused(
    arguments: tuple[str, ...], words: str, port: str
) -> None:
    """Before anything is sent, with the remedy; the last is refused by the children."""
    code, out, err = call("load", *arguments, port)
    assert (code, out) == (2, b"")
    assert err.startswith(f"techo: {words}")


def test_two_processes_are_one_load(tmp_path: Path) -> None:
    """Every trip is counted once, by them and by the server; merge keeps the rows."""
    path = str(tmp_path / "report.json")
    with serving("--reply", "raw") as process:
        code, out, _ = call(
            *("load", "--processes", "2", "-c", "5", "-n", "1001", "--output", path),
            *("--report-every", "off", f"127.0.0.1:{process.port}"),
        )
        counted = process.statistics()
    report = techo.LoadReport.from_json(json.loads(Path(path).read_text()))
    assert code == 0
    assert counted["accepted"] == report.connections == 5
    assert counted["received_bytes"] == report.received_bytes == 1001 * 64
    assert [(each.name, each.received) for each in report.parts] == [
        ("process 1", 501),
        ("process 2", 500),
    ]
    rows = [line.split() for line in out.decode().splitlines() if "process" in line]
    assert [row[1:6] for row in rows] == [["1", "501", "0", "0", rows[0][5]], rows[1][1:6]]
    code, merged, _ = call("merge", "--json", path)
    assert techo.LoadReport.from_json(json.loads(merged)) == report


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, from whichever of its threads."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [*map(int, " ".join(texts).split())]


def test_a_process_that_dies_is_named_and_what_it_owes_is_unsent() -> None:
    """The others go on, and the exit status is 1."""
    with (
        serving("-q", "--reply", "raw") as process,
        started(
            *("load", "--processes", "2", "--json", "--report-every", "200ms", "-n", "400"),
            *("-r", "400", str(process.port)),
        ) as popen,
    ):
        assert popen.stdout is not None
        popen.stdout.readline()  # so that all have begun
        os.kill(children(popen.pid)[-1], signal.SIGKILL)
        out, err = popen.communicate(timeout=PATIENCE)
    report = techo.LoadReport.from_json(json.loads(out.splitlines()[-1]))
    one, other = report.parts
    if one.died:
        one, other = other, one
    assert popen.returncode == 1
    assert (one.received, one.unsent, one.died) == (200, 0, None)
    assert other.died == "it was ended by signal 9"
    assert (report.unsent, report.received + report.unsent) == (other.unsent, 400)
    assert err.decode() == (
        f"techo: {other.name} died: it was ended by signal 9; {other.unsent:,} trips of its "
        "share are unsent\n"
    )


def test_one_signal_ends_all_of_them(port: str) -> None:
    """The report is of what there was; the process ends as the signal says."""
    with started(
        *("load", "--processes", "2", "--json", "--report-every", "200ms", "-d", "1h", port)
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        left = children(popen.pid)
        assert len(left) == 2
        popen.send_signal(signal.SIGINT)
        out, err = popen.communicate(timeout=PATIENCE)
    report = techo.LoadReport.from_json(json.loads(out.splitlines()[-1]))
    assert (popen.returncode, err) == (-signal.SIGINT, b"")
    assert report.received == sum(each.received for each in report.parts) > 0
    assert (report.in_flight, report.lost) == (0, 0)
    assert not any(Path(f"/proc/{pid}").exists() for pid in left)


@pytest.mark.skipif(sys.platform != "linux", reason="cores are counted on Linux alone")
@pytest.mark.parametrize(
    ("wanted", "arguments", "count"),
    [
        ("auto", ("-c", "20"), 16),
        ("auto", ("-c", "3"), 3),
        ("auto", ("-c", "20", "-n", "2"), 2),
        ("4", ("-c", "3"), 4),  # which is refused
    ],
)
def test_auto_takes_no_more_processes_than_have_something_to_do(
    monkeypatch: pytest.MonkeyPatch, wanted: str, arguments: tuple[str, ...], count: int
) -> None:
    """There may be more cores than connections; a number is taken as it was given."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(16))
    options = parse(COMMAND, ["--processes", wanted, *arguments], {})
    settle(options)
    assert count_for(options.processes, plan_of(options)) == count
