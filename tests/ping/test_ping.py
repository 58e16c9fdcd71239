"""Ping over memory streams, in virtual time: what each probe comes to, and what adds up."""

from __future__ import annotations

import itertools
import math
import statistics as figures
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from pings import Seen, see, see_faults
from techo import testing
from techo.testing import Fault, MemoryStream, open_memory_server

pytestmark = pytest.mark.usefixtures("unix_time")
EPOCH = 1_000_000.0
"""Unix time when a test begins."""

SECOND = 10**9
"""In nanoseconds."""


async def see_pauses(pauses: Sequence[float], **options: Any) -> Seen:
    """Ping a server that answers one probe after another, each after a pause of its own."""
    ours, peer = MemoryStream.pair()

    async def answer() -> None:
        for pause in pauses:
            data = await peer.receive_some(64)
            await trio.sleep(pause)
            await peer.send_all(data)

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        seen = await see(techo.ping(connect, count=len(pauses), **options))
        nursery.cancel_scope.cancel()
    return seen


async def test_each_probe_has_a_result_in_its_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first at once, one each interval; each result is a value that nobody changes."""
    seen = await see_faults(testing.Delay(0.25), count=3, interval=2, size=100)
    assert seen.results == [
        techo.PingReply(1, 100, 0.25, EPOCH + 0.25),
        techo.PingReply(2, 100, 0.25, EPOCH + 2.25),
        techo.PingReply(3, 100, 0.25, EPOCH + 4.25),
    ]
    assert seen.times == [0.25, 2.25, 4.25]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        seen.results[0].seq = 2  # type: ignore[misc]  # on purpose


async def test_each_failure_too(autojump_clock: trio.testing.MockClock) -> None:
    """When the time for its reply is over, with the cause and the same in words."""
    seen = await see_faults(testing.Stall(), count=2, interval=2, timeout=0.5)
    assert seen.results == [
        techo.PingFailure(
            seq,
            techo.FailureCause.TIMEOUT_REPLY,
            "no reply within 0.5 s",
            EPOCH + 2 * seq - 1.5,
        )
        for seq in (1, 2)
    ]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        seen.results[0].seq = 2  # type: ignore[misc]  # on purpose


async def test_the_clock_on_the_wall_may_be_set_back(
    autojump_clock: trio.testing.MockClock, unix_time: Any
) -> None:
    """Round trips are timed by the run's clock."""
    async with (
        open_memory_server(reply=techo.raw, faults=[testing.Delay(0.5)]) as server,
        techo.ping(server.connect, count=2) as ping,
        trio.open_nursery() as nursery,
    ):
        await anext(ping)
        nursery.start_soon(set_back, unix_time)
        result = await anext(ping)
    assert isinstance(result, techo.PingReply)
    assert (result.seconds, result.at) == (0.5, EPOCH + 1.5 - 3600)
    assert ping.statistics().latency.max == SECOND // 2


async def set_back(unix_time: Any) -> None:
    """Set Unix time back by an hour while a probe is under way."""
    await trio.sleep(0.75)
    unix_time.offset -= 3600


async def test_statistics_when_all_is_well(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing but what happened; connecting is timed apart from the echo."""
    seen = await see_pauses([0.25] * 3)
    assert seen.statistics == techo.PingStatistics(
        endpoint="a function that connects",
        address=None,
        sent=3,
        received=3,
        lost=0,
        in_flight=0,
        missed=0,
        late=0,
        duplicate=0,
        corrupt=0,
        stray=0,
        failures={},
        reconnects=0,
        largest=64,
        latency=techo.Histogram.of([SECOND // 4] * 3),
        clocks={techo.Clock.USER: 3},
        client=techo.Histogram(),
        mdev=0,
        jitter=0,
        outages=0,
        outage_seconds=0,
        longest_outage=None,
        setup={"connect": techo.Histogram.of([0])},
    )
    assert seen.statistics.loss == 0
    assert not seen.statistics.never_reached


async def test_figures_of_round_trips(autojump_clock: trio.testing.MockClock) -> None:
    """Least, mean, most, deviation and jitter to the nanosecond, percentiles to 0.8 %."""
    pauses = [(37 * number % 100 + 1) / 128 for number in range(100)]
    found = (await see_pauses(pauses)).statistics
    times = [round(pause * SECOND) for pause in pauses]
    assert (found.latency.min, found.latency.max) == (min(times), max(times))
    assert found.latency.mean == round(figures.mean(times))
    assert found.mdev == math.isqrt(round(figures.pvariance(times)))
    differences = [abs(a - b) for a, b in itertools.pairwise(times)]
    assert found.jitter == round(figures.mean(differences))
    for percent in (50, 95, 99):
        nearest = sorted(times)[percent - 1]
        assert found.latency.percentile(percent) == pytest.approx(nearest, rel=0.008)


async def test_before_the_first_reply_there_are_no_figures(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """None, rather than a nought that nobody measured; one reply has no jitter."""
    async with open_memory_server(reply=techo.raw) as server:
        ping = techo.ping(server.connect, count=1)
        before = ping.statistics()
        await see(ping)
    assert (before.sent, before.loss, before.largest, before.mdev, before.jitter) == (
        0,
        *[None] * 4,
    )
    assert before.latency.mean is None
    assert not before.never_reached
    after = ping.statistics()
    assert (after.loss, after.largest, after.mdev, after.jitter) == (0, 64, 0, None)


async def test_late_is_lost_no_longer(autojump_clock: trio.testing.MockClock) -> None:
    """A reply behind its time is received, late, with its time; nothing is lost twice."""
    seen = await see_pauses([2.5, 0.25, 0.25, 0.25], interval=2, timeout=1)
    assert list(zip(seen.told, seen.times, strict=True)) == [
        ((1, "timeout-reply"), 1),
        ((1, "late"), 2.5),
        ((2, "reply"), 2.75),
        ((3, "reply"), 4.25),
        ((4, "reply"), 6.25),
    ]
    assert (seen.statistics.lost, seen.statistics.late, seen.statistics.received) == (0, 1, 4)
    assert seen.statistics.failures == {}
    assert seen.statistics.latency.max == 2.5 * SECOND


async def test_many_may_be_under_way(autojump_clock: trio.testing.MockClock) -> None:
    """A reply may take many intervals; each finds its own probe."""
    async with open_memory_server(reply=techo.stamped, faults=[testing.Chunk(5, 50)]) as server:

        async def connect() -> trio.abc.Stream:
            return await server.connect()

        seen = await see(techo.ping(connect, count=20, interval=0.125, timeout=5))
    assert seen.told == [(seq, "reply") for seq in range(1, 21)]
    seen = await see_pauses([0.75] * 8, interval=0.5, timeout=5)
    assert [reply.seconds for reply in replies(seen)] == [0.75 + 0.25 * n for n in range(8)]


def replies(seen: Seen) -> list[techo.PingReply]:
    """Those results that are replies."""
    return [result for result in seen.results if isinstance(result, techo.PingReply)]


async def test_who_asks_late_changes_nothing_of_what_is_measured(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Probes are sent when they are due, and each reply is timed when it arrives."""
    times = []
    async with (
        open_memory_server(reply=techo.raw, faults=[testing.Delay(0.25)]) as server,
        techo.ping(server.connect, count=4, interval=1, timeout=9) as ping,
    ):
        async for result in ping:
            assert isinstance(result, techo.PingReply)
            times.append((result.seq, result.at - EPOCH, result.seconds))
            if result.seq == 1:
                await trio.sleep(3.25)
    assert times == [(1, 0.25, 0.25), (2, 1.25, 0.25), (3, 2.25, 0.25), (4, 3.25, 0.25)]


CASES: list[tuple[Fault, str, dict[str, object]]] = [
    (testing.Delay(0.5), "reply reply reply", {"received": 3}),
    (testing.Chunk(1, 9), "reply reply reply", {"reconnects": 0}),
    (testing.Throttle(128), "reply reply reply", {"lost": 0}),
    (testing.SlowAccept(0.75), "reply reply reply", {"mdev": 353553390}),
    (testing.Stall(after=64), "reply timeout-reply timeout-reply", {"reconnects": 0}),
    (testing.Stall(), "timeout-reply timeout-reply timeout-reply", {"outages": 1}),
    (testing.NeverRead(), "timeout-reply timeout-reply timeout-reply", {"largest": None}),
    (testing.Reset(), "reset reset reset", {"reconnects": 2}),
    (testing.Reset(every=2), "reply reply reply", {"reconnects": 0}),
    (testing.CloseUnread(), "reset reset reset", {"reconnects": 2}),
    (testing.HalfCloseFirst(), "eof eof eof", {"reconnects": 2}),
    (testing.Truncate(100), "reply short reply", {"reconnects": 1, "lost": 1}),
    (testing.Truncate(64), "reply eof reply eof reply", {"lost": 0, "reconnects": 2}),
    (testing.Truncate(1), "short short short", {"largest": None}),
    (testing.Corrupt(1.0), "corrupt corrupt corrupt", {"corrupt": 3, "lost": 3}),
    (testing.Corrupt(0.5, offset=64), "reply corrupt reply", {"corrupt": 1, "lost": 1}),
    (testing.Lengthen(2), "corrupt corrupt corrupt", {"corrupt": 3, "lost": 3}),
]


@pytest.mark.parametrize(("fault", "words", "counted"), CASES, ids=lambda each: str(each)[:40])
async def test_faults_of_streams_and_what_counts_them(
    autojump_clock: trio.testing.MockClock,
    fault: Fault,
    words: str,
    counted: dict[str, object],
) -> None:
    """Each is told by its cause; a stream that broke is opened again at the next tick."""
    seen = await see_faults(fault, count=3)
    assert seen.words == words
    assert {name: getattr(seen.statistics, name) for name in counted} == counted
    if "reply" not in words.split():
        assert seen.statistics.loss == 100
        longest = seen.statistics.longest_outage
        assert longest is not None
        assert (longest.since, longest.until, longest.probes) == (EPOCH, None, 3)
        assert longest.seconds == seen.times[-1]


@pytest.mark.parametrize(
    ("size", "count", "sizes"),
    [
        (range(10, 50, 10), None, [10, 20, 30, 40]),
        (range(40, 0, -10), None, [40, 30, 20, 10]),
        (range(10, 40, 10), 5, [10, 20, 30, 10, 20]),
        (range(10, 50, 10), 2, [10, 20]),
        (1, 2, [1, 1]),
        (10**6, 1, [10**6]),
    ],
)
async def test_sizes_are_swept(
    autojump_clock: trio.testing.MockClock,
    size: int | range,
    count: int | None,
    sizes: list[int],
) -> None:
    """Once without a count, round and round with one; the largest is told."""
    async with open_memory_server(reply=techo.stamped) as server:
        seen = await see(techo.ping(server.connect, size=size, count=count))
    assert [reply.size for reply in replies(seen)] == sizes
    assert seen.statistics.largest == max(sizes)


async def test_a_percentile_among_the_lost_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is infinite, in JSON null; half of the probes are no p50 of those that came back."""
    async with open_memory_server(reply=techo.raw, faults=[testing.Stall(64 * 40)]) as server:
        found = (await see(techo.ping(server.connect, count=100))).statistics
    assert (found.received, found.lost) == (40, 60)
    assert found.percentile(50) == found.percentile(99) == math.inf
    assert found.percentile(25) == 0
    assert found.to_json()["latency_ns"]["p50"] is None
    assert found.to_json()["latency_ns"]["max"] == 0
