"""Load whose connections are good for a few trips each, and how they are replaced."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, open_descriptors, until_ended
from loads import causes, check, faulty, until_descriptors
from techo.testing import Delay, DropReply, MemoryStream, Truncate, open_memory_server

Clock = trio.testing.MockClock
NANOSECONDS = 10**9
DATAGRAMS = {techo.Kind.UDP, techo.Kind.UNIXGRAM}


@pytest.mark.parametrize(("every", "pipeline"), [(1, 1), (7, 4)])
@pytest.mark.usefixtures("conversation")
async def test_every_connection_makes_its_trips_and_no_more(  # noqa: PLR0917  -- parameters and fixtures
    kind: techo.Kind,
    address: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    every: int,
    pipeline: int,
) -> None:
    """The server accepts as many as are reported, all of them end well, and none is left."""
    tls = client_tls if kind is techo.Kind.TLS else None
    before = await open_descriptors()
    async with techo.open_server(address, tls=server_tls, reply=techo.raw) as server:
        with trio.fail_after(PATIENCE):
            report = check(
                await techo.load(
                    server.endpoints[0],
                    connections=1,
                    pipeline=pipeline,
                    trips=14,
                    reconnect_every=every,
                    tls=tls,
                )
            )
            assert (report.received, report.failures, report.reconnects) == (14, {}, 0)
            # The first was there before the clock began; behind the last trip none is needed.
            assert report.connects == 14 // every - 1
            assert report.connect.min > 0
            if kind not in DATAGRAMS:
                statistics = await until_ended(server, 14 // every)
                assert statistics.accepted == 14 // every
                assert ended(statistics) == {"eof": 14 // every}
    await until_descriptors(before)


async def test_a_trip_waits_while_its_connection_is_opened(autojump_clock: Clock) -> None:
    """Its response time has the wait, its service time has not, and opening has its own."""
    async with open_memory_server(faults=[Delay(0.125)]) as server:

        async def connect() -> MemoryStream:
            await trio.sleep(0.5)
            return await server.connect()

        report = check(
            await techo.load(connect, connections=1, rate=2, seconds=5, reconnect_every=1)
        )
    # The kth was due at k/2, and sent when k times one had come back and the next was opened.
    assert (report.received, report.connects) == (10, 9)
    assert report.connect.min == report.connect.max == NANOSECONDS // 2
    assert report.service.min == report.service.max == NANOSECONDS // 8
    assert report.response is not None
    assert (report.response.min, report.response.max) == (
        NANOSECONDS // 8,
        10 * NANOSECONDS // 8,
    )


async def test_without_a_rate_opening_is_a_part_of_the_rate(autojump_clock: Clock) -> None:
    """Each connection is opened when the one before is over, and all of them at once."""
    async with open_memory_server(faults=[Delay(0.25)]) as server:

        async def connect() -> MemoryStream:
            await trio.sleep(0.25)
            return await server.connect()

        report = check(
            await techo.load(connect, connections=3, seconds=4.9, warm_up=1, reconnect_every=2)
        )
    # Of two trips and of opening: 0.75 s, at whose end is the next connection.
    assert report.received == 3 * 13
    assert report.connects == 3 * 6
    assert report.connects_per_second == report.connects / report.seconds


@pytest.mark.parametrize(("every", "broken", "connects"), [(3, 0, 3), (5, 2, 2)])
async def test_only_what_broke_is_reconnected(
    autojump_clock: Clock, every: int, broken: int, connects: int
) -> None:
    """A connection that made all its trips is no failure, nor is its successor a repair."""
    faults = [Delay(0.5), Truncate(after=3 * 64)]  # the fourth trip of a connection is lost
    async with open_memory_server(reply=techo.raw, faults=faults) as server:
        report = check(
            await techo.load(server.connect, connections=1, trips=11, reconnect_every=every)
        )
    assert (report.received, report.lost) == (11 - broken, broken)
    assert (report.reconnects, report.failed) == (broken, broken)
    assert report.connects == connects


@pytest.mark.usefixtures("conversation")
async def test_a_lost_datagram_is_one_of_the_trips() -> None:
    """A socket is replaced after so many, whether they came back or were given up."""
    async with faulty("udp://127.0.0.1:0", DropReply(every=2)) as server:
        report = check(
            await techo.load(
                server.endpoints[0], connections=1, trips=12, timeout=0.1, reconnect_every=3
            )
        )
    assert (report.received, causes(report)) == (6, {"timeout-reply": 6})
    assert (report.connects, report.reconnects) == (3, 0)
