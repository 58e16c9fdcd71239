"""Load in virtual time: both loops, what is counted, and what a stall does to the figures."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import techo
from loads import check, connecting
from techo.testing import Delay, MemoryStream, Truncate, open_memory_server

NANOSECONDS = 10**9

Clock = trio.testing.MockClock


@pytest.mark.parametrize("pipeline", [1, 3])
async def test_a_closed_loop_sends_the_next_when_one_comes_back(
    autojump_clock: Clock, pipeline: int
) -> None:
    """As fast as the server answers; and the clock stops at the last reply."""
    async with open_memory_server(reply=techo.raw, faults=[Delay(0.5)]) as server:
        report = check(
            await techo.load(server.connect, connections=2, seconds=9.8, pipeline=pipeline)
        )
        assert report.received == 2 * 20 * pipeline
        assert report.seconds == trio.current_time() == 10
        assert report.trips_per_second == 4 * pipeline
        assert report.service.min == report.service.max == NANOSECONDS // 2
        assert report.latency is report.service
        assert (report.lost, report.unsent, report.reconnects, report.failures) == (0, 0, 0, {})
        assert (
            server.statistics().bytes_in
            == server.statistics().bytes_out
            == report.received_bytes
        )
        assert server.statistics().accepted == 2


async def test_the_default_is_ten_connections_for_ten_seconds(autojump_clock: Clock) -> None:
    """Of 64 bytes each, one at a time."""
    async with open_memory_server(faults=[Delay(2)]) as server:
        report = check(await techo.load(server.connect))
    assert (report.connections, report.size, report.pipeline, report.rate) == (10, 64, 1, None)
    assert (report.seconds, report.received, report.received_bytes) == (10, 50, 50 * 64)
    assert report.endpoint == "a function that connects"


async def test_a_rate_does_not_slow_down_when_the_server_does(autojump_clock: Clock) -> None:
    """What there was no room for is sent late, and its time counts from when it was due."""
    async with open_memory_server(reply=techo.raw, faults=[Delay(0.25)]) as server:
        report = check(await techo.load(server.connect, connections=1, rate=10, seconds=2))
    # The kth was due at k/10, sent at k/4 and back at (k + 1)/4, for k from 0 to 19.
    assert (report.received, report.unsent, report.seconds) == (20, 0, 5)
    assert report.service.min == report.service.max == NANOSECONDS // 4
    assert report.send_lag is not None
    assert report.response is not None
    assert (report.send_lag.min, report.send_lag.max) == pytest.approx((0, 2.85e9))
    assert (report.response.min, report.response.max) == pytest.approx((0.25e9, 3.1e9))
    assert report.send_lag.sum == pytest.approx(sum(0.15e9 * k for k in range(20)))
    assert report.latency is report.response


async def test_a_rate_that_the_server_keeps_up_with_is_never_behind(
    autojump_clock: Clock,
) -> None:
    """Every trip is sent at the moment it is due."""
    async with open_memory_server(faults=[Delay(0.125)]) as server:
        report = check(await techo.load(server.connect, connections=4, rate=16, seconds=5))
    assert report.received == 80
    assert report.seconds == 5 - 1 / 16 + 0.125
    assert report.send_lag is not None
    assert report.response is not None
    assert report.send_lag.max == 0
    assert report.response.max == report.service.max == NANOSECONDS // 8


async def test_what_can_not_be_sent_in_the_end_is_unsent(autojump_clock: Clock) -> None:
    """It is tried for a timeout after the end, and then said."""
    async with open_memory_server(faults=[Delay(0.25)]) as server:
        report = check(
            await techo.load(server.connect, connections=1, rate=10, seconds=2, timeout=1.1)
        )
        assert (report.received, report.lost, report.unsent) == (13, 0, 7)
        assert report.seconds == trio.current_time() == 3.25


@pytest.mark.parametrize("rate", [None, 100])
@pytest.mark.parametrize("pipeline", [1, 4])
@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
async def test_so_many_trips_are_so_many(
    autojump_clock: Clock,
    reply: techo.Reply,
    connections: int,
    pipeline: int,
    rate: float | None,
) -> None:
    """No more and no less, however many there is room for; the server has seen the same."""
    async with open_memory_server(reply=reply, faults=[Delay(0.03)]) as server:
        report = check(
            await techo.load(
                server.connect,
                connections=connections,
                pipeline=pipeline,
                rate=rate,
                trips=50,
                size=100,
            )
        )
        assert (report.received, report.lost, report.unsent) == (50, 0, 0)
        assert server.statistics().bytes_in == report.received_bytes == 5000


async def test_every_message_of_every_connection_is_another(autojump_clock: Clock) -> None:
    """So that no reply can pass for another's, of another load neither."""
    seen: list[bytes] = []

    async def note(stream: MemoryStream) -> None:
        while data := await stream.receive_some():
            seen.append(data)
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            report = await techo.load(
                connecting(nursery, note), trips=300, connections=3, size=16
            )
            assert check(report).received == 300
    assert {len(each) for each in seen} == {16}
    assert len(seen) == len(set(seen)) == 600


@pytest.mark.parametrize(
    ("options", "counted", "seconds"),
    [
        ({"seconds": 3}, 6, 3.0),
        ({"trips": 3}, 3, 1.5),
        ({"seconds": 3, "rate": 2}, 6, 3.0),
        ({"trips": 3, "rate": 2}, 3, 1.5),
    ],
)
async def test_the_warm_up_is_not_counted(
    autojump_clock: Clock, options: dict[str, Any], counted: int, seconds: float
) -> None:
    """It comes before, and the clock begins behind it."""
    async with open_memory_server(faults=[Delay(0.5)]) as server:
        load = functools.partial(techo.load, server.connect, connections=1, warm_up=2)
        report = check(await load(**options))
        assert (report.received, report.seconds) == (counted, seconds)
        assert server.statistics().bytes_in == 64 * (4 + counted)
        assert trio.current_time() == 2 + seconds


async def test_what_goes_wrong_in_the_warm_up_is_not_counted_either(
    autojump_clock: Clock,
) -> None:
    """Lost trips and connections that were opened again; what comes later is."""
    faults = [Delay(0.5), Truncate(after=3 * 64)]
    async with open_memory_server(reply=techo.raw, faults=faults) as server:
        report = check(await techo.load(server.connect, connections=1, warm_up=3, seconds=2.9))
        # Of each connection three trips come back; the fourth is lost at once.
        assert (report.received, report.lost, report.reconnects) == (6, 2, 2)
        assert server.statistics().accepted == 4


async def test_watching_shows_counts_that_only_grow(autojump_clock: Clock) -> None:
    """Five times in a second, and at each time they add up to what was sent."""
    # No reply comes in the very moment in which the load is looked at.
    seen: list[tuple[float, techo.LoadReport, int]] = []
    async with open_memory_server(faults=[Delay(0.2703)]) as server:

        def watch(report: techo.LoadReport) -> None:
            seen.append((trio.current_time(), report, server.statistics().bytes_in))

        final = check(
            await techo.load(server.connect, connections=3, seconds=4, rate=20, watch=watch)
        )
    assert [moment for moment, *_ in seen] == pytest.approx([n / 5 for n in range(len(seen))])
    counts = [
        (each.received, each.received_bytes, each.service.count, each.seconds)
        for each in (*(report for _, report, _ in seen), final)
    ]
    for one, other in itertools.pairwise(counts):
        assert all(a <= b for a, b in zip(one, other, strict=True))
    assert len(set(counts)) > 10
    for _, report, received in seen[1:]:  # at the first, nothing can have been received
        # What a server delays is counted there when its time has come.
        assert 64 * (report.received + report.lost + report.in_flight) >= received
        assert 0 <= report.unsent <= 80


async def test_a_busy_client_says_so(autojump_clock: Clock) -> None:
    """Measured time is the run's, processor time the system's: here the one stands still."""
    async with open_memory_server(faults=[Delay(5e-5)]) as server:
        report = check(await techo.load(server.connect, connections=1, trips=2100))
        assert report.client_was_limit
        assert report.client_cpu_percent is not None
        assert (
            90
            < report.client_cpu_percent
            == pytest.approx(100 * report.client_cpu_seconds / 0.105)
        )
    async with open_memory_server(faults=[Delay(1e-6)]) as server:
        report = check(await techo.load(server.connect, connections=1, trips=500))
        assert (report.client_cpu_percent, report.client_was_limit) == (None, False)
    async with open_memory_server(faults=[Delay(50)]) as server:
        report = check(await techo.load(server.connect, connections=1, trips=5, timeout=100))
        assert not report.client_was_limit


def answer_but_pause(begin: float, end: float) -> Callable[[MemoryStream], Awaitable[None]]:
    """A peer that takes 5 ms for an answer, and none between two times."""

    async def peer(stream: MemoryStream) -> None:
        while data := await stream.receive_some():
            await trio.sleep(0.005)  # of the clock, which jumps
            if begin <= trio.current_time() < end:
                await trio.sleep_until(end)
            await stream.send_all(data)

    return peer


async def test_a_stall_is_not_omitted_where_there_is_a_rate(autojump_clock: Clock) -> None:
    """Service time stays flat, response time tells what users felt; a closed loop does not.

    The server stands still for two of ten seconds, in which four hundred trips are due and
    four are under way.
    """
    reports: dict[float | None, techo.LoadReport] = {}
    async with trio.open_nursery() as nursery:
        for rate, connections in ((200.0, 4), (None, 2)):
            begin = trio.current_time()
            connect = connecting(nursery, answer_but_pause(begin + 4, begin + 6))
            reports[rate] = check(
                await techo.load(connect, connections=connections, rate=rate, seconds=10)
            )
    scheduled, closed = reports[200.0], reports[None]
    assert (scheduled.received, scheduled.unsent) == (2000, 0)
    assert scheduled.response is not None
    assert scheduled.send_lag is not None
    for percent in (50, 99):
        assert scheduled.service.percentile(percent) == pytest.approx(0.005e9, rel=0.01)
        assert closed.latency.percentile(percent) == pytest.approx(0.005e9, rel=0.01)
    assert scheduled.response.percentile(50) == pytest.approx(0.005e9, rel=0.01)
    assert 1.85e9 < (scheduled.response.percentile(99) or 0) < 2e9
    assert 1.85e9 < (scheduled.send_lag.percentile(99) or 0) < 2e9
    # It was there, for those under way: that is all that the closed loop has seen of it.
    assert scheduled.service.max == pytest.approx(2e9, rel=0.01)
    assert closed.service.max == pytest.approx(2e9, rel=0.01)
    assert sum(1 for share, duration in closed.service.curve() if duration > 10**7) == 1
