"""The probe of a load, in virtual time: what a queue does to who stands in it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from loads import check, connecting
from schemas import check_lines
from techo._figures import figures_of_load
from techo._rules import LOAD, PROBED, Rule
from techo.testing import MemoryStream

Clock = trio.testing.MockClock

MILLISECOND = 1_000_000

IDLE = 25
"""Probes before a load and after it; another may be due in the moment in which that ends."""


@attrs.define
class Queue:
    """A server that serves one message after the other, of whichever connection."""

    each: float = 0.01
    """Seconds that each takes."""
    turn: trio.StrictFIFOLock = attrs.field(factory=trio.StrictFIFOLock)
    frozen: tuple[float, float] = (math.inf, math.inf)
    """From when to when it does nothing."""

    async def serve(self, stream: MemoryStream) -> None:
        """Answer each message of a connection when it is its turn."""
        while data := await stream.receive_some(64):
            async with self.turn:
                await trio.sleep(self.each)
                if self.frozen[0] <= trio.current_time() < self.frozen[1]:
                    await trio.sleep_until(self.frozen[1])
            await stream.send_all(data)


@contextlib.asynccontextmanager
async def serving(queue: Queue) -> AsyncIterator[Callable[[], Awaitable[MemoryStream]]]:
    """Give what connects to it."""
    async with trio.open_nursery() as nursery:
        yield connecting(nursery, queue.serve)
        nursery.cancel_scope.cancel()


async def probed(queue: Queue, **options: Any) -> tuple[techo.LoadReport, techo.ProbeReport]:
    """The report of a load of four connections for ten seconds, and what its probe has."""
    settings = {"connections": 4, "seconds": 10.0, "probe": 10.0} | options
    async with serving(queue) as connect:
        report = await techo.load(connect, **settings)
    assert report.probe is not None
    return check(report), report.probe


@pytest.fixture(scope="module")
def report() -> techo.LoadReport:
    """That of an ordinary load with an ordinary probe."""

    async def measure() -> techo.LoadReport:
        began = trio.current_time()
        found, _ = await probed(Queue())
        # Idle for 2.5 s, loaded for 10 s, and idle again.
        assert trio.current_time() - began == pytest.approx(15, abs=0.1)
        return found

    return trio.run(measure, clock=Clock(autojump_threshold=0))


@pytest.fixture
def probe(report: techo.LoadReport) -> techo.ProbeReport:
    """What its probe has."""
    assert report.probe is not None
    return report.probe


def test_a_queue_that_the_load_fills_is_seen_under_load_alone(
    report: techo.LoadReport, probe: techo.ProbeReport
) -> None:
    """Four of the load's are before each probe; one of these is being served already."""
    idle, loaded, after = probe.idle, probe.loaded, probe.after
    assert idle.latency.min == idle.latency.max == 10 * MILLISECOND
    queued = [count for ns, count in loaded.latency.durations() if ns >= 40 * MILLISECOND]
    assert sum(queued) >= loaded.received - 2  # as the load begins, there is no queue
    assert loaded.latency.max <= 50 * MILLISECOND
    assert after.latency.min == after.latency.max == 10 * MILLISECOND
    assert (idle.received, after.received) == pytest.approx((IDLE, IDLE), abs=1)
    assert loaded.received == pytest.approx(100, abs=1)
    assert probe.missed == idle.lost == loaded.lost == after.lost == 0
    assert report.seconds == pytest.approx(10, abs=0.05)
    assert report.received == pytest.approx(1000 - 100, abs=10)  # without the probes


def test_the_growth_is_a_figure_and_a_sentence(
    report: techo.LoadReport, probe: techo.ProbeReport
) -> None:
    """So much more, so many times as slow; and round trips a minute."""
    median = probe.loaded.percentile(50)
    assert median is not None
    assert probe.growth == pytest.approx(median - 10 * MILLISECOND, rel=0.01)
    assert probe.slowdown == pytest.approx(median / (10 * MILLISECOND), rel=0.01)
    per_minute = probe.round_trips_per_minute
    assert per_minute is not None
    assert 60 / 0.05 < per_minute < 60 / 0.03
    assert probe.idle.round_trips_per_minute == pytest.approx(6000, rel=0.01)
    text = str(report)
    assert f"ms more under load: {probe.slowdown:.2g} times as slow" in text
    assert f"responsiveness: {per_minute:,.0f} round trips a minute, idle 6,000" in text


async def test_a_probe_that_is_lost_is_slower_than_any(autojump_clock: Clock) -> None:
    """Nothing comes back for six of ten seconds: p50 is lost, and nothing is left in a minute.

    As it was frozen, the server answers all that was sent meanwhile when it goes on; that is
    too late to count.
    """
    queue = Queue(frozen=(3.5, 3.5 + 6))
    report, probe = await probed(queue, timeout=0.5)
    assert 55 <= probe.loaded.lost < 95  # some stood in the queue that then was left
    assert probe.loaded.failures == {techo.FailureCause.TIMEOUT_REPLY: probe.loaded.lost}
    assert probe.loaded.percentile(50) == probe.growth == math.inf
    assert probe.round_trips_per_minute == 0
    assert probe.idle.lost == probe.after.lost == 0
    text = " ".join(str(report).split())
    assert "more than half of the probes were lost under load" in text
    assert "responsiveness: 0 round trips a minute, idle 6,000; more than 5 % were lost" in text
    found = report.to_json()["probe"]
    assert (found["growth_ns"], found["slowdown"]) == (None, None)


async def test_the_warm_up_and_the_last_replies_are_no_load(autojump_clock: Clock) -> None:
    """Of ten seconds of warm-up there are no probes, and none of the backlog's end."""
    _, probe = await probed(Queue(), warm_up=10.0, seconds=2.0)
    assert probe.loaded.received == pytest.approx(20, abs=1)
    assert trio.current_time() == pytest.approx(2.5 + 10 + 2 + 2.5, abs=0.1)


async def test_a_probe_goes_on_whatever_is_lost(autojump_clock: Clock) -> None:
    """While nobody is there it tries to connect whenever a probe is due."""
    async with serving(Queue()) as connect:

        async def try_to_connect() -> MemoryStream:
            if trio.current_time() < 1:
                raise ConnectionRefusedError
            return await connect()

        report = await techo.load(try_to_connect, probe=10, seconds=1)
    assert report.probe is not None
    assert report.probe.idle.failures == {techo.FailureCause.REFUSED: 10}
    assert report.probe.idle.received == pytest.approx(IDLE - 10, abs=1)
    assert report.failures == {}


async def test_where_nobody_is_ever_there_the_load_says_so(autojump_clock: Clock) -> None:
    """The probes before it are lost; there is nothing to come after."""

    async def refuse() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError

    report = await techo.load(refuse, probe=10)
    assert report.never_reached
    assert report.probe is not None
    assert report.probe.idle.lost == pytest.approx(IDLE, abs=1)
    assert report.probe.after.lost == 0
    assert trio.current_time() < 20


@pytest.mark.parametrize("at", [1.05, 4.05, 13.05])
async def test_a_load_that_is_stopped_has_probed_until_then(
    at: float, autojump_clock: Clock
) -> None:
    """In whichever phase it is."""
    stop = trio.Event()
    seen: list[techo.LoadReport] = []
    async with serving(Queue()) as connect, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def stop_later() -> None:
            await trio.sleep(at)
            stop.set()

        report = check(
            await techo.load(connect, probe=10, seconds=10, stop=stop, watch=seen.append)
        )
        assert trio.current_time() == pytest.approx(at, abs=0.3)
    probe = report.probe
    assert probe is not None
    counts = [probe.idle.received, probe.loaded.received, probe.after.received]
    expected = [min(25, 10 * at), 10 * min(10, max(0, at - 2.5)), 10 * max(0, at - 12.5)]
    assert counts == pytest.approx(expected, abs=2)
    assert seen[0].probe is not None
    assert len(seen) >= 5 * at - 2  # in every phase


async def test_what_a_function_raises_ends_it(autojump_clock: Clock) -> None:
    """At once, and it is raised, as without a probe."""

    async def fail() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise LookupError("no such server")

    with pytest.raises(LookupError, match="no such server"):
        await techo.load(fail, probe=10)
    assert trio.current_time() < 1


async def test_few_probes_take_longer_idle(autojump_clock: Clock) -> None:
    """Until there are enough of them for responsiveness; many take two seconds."""
    _, probe = await probed(Queue(), probe=2.5, seconds=1.0)
    assert probe.idle.received == pytest.approx(IDLE, abs=1)
    assert trio.current_time() == pytest.approx(10 + 1 + 10, abs=0.5)
    before = trio.current_time()
    _, probe = await probed(Queue(each=0.001), probe=100.0, seconds=0.2)
    assert probe.idle.received == pytest.approx(200, abs=1)
    assert trio.current_time() - before == pytest.approx(2 + 0.2 + 2, abs=0.1)


def test_it_goes_through_json_and_is_added_up(
    report: techo.LoadReport, probe: techo.ProbeReport
) -> None:
    """Merged, counts are added up of the reports that have a probe."""
    text = json.dumps(report.to_json())
    check_lines(text)
    again = techo.LoadReport.from_json(json.loads(text))
    assert again == report
    merged = techo.LoadReport.merged([report, again]).probe
    assert merged is not None
    assert merged.rate == 2 * probe.rate
    assert merged.loaded.received == 2 * probe.loaded.received
    assert merged.round_trips_per_minute == probe.round_trips_per_minute
    without = attrs.evolve(report, probe=None)
    assert techo.LoadReport.merged([report, without]).probe == probe
    assert techo.LoadReport.merged([without, without]).probe is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"probe": 5}, "the probe lacks 'samples'"),
        ({"probe": {"samples": {"kernel": 1}}}, "the probe's samples lacks 'user'"),
    ],
)
def test_a_probe_that_is_none_is_refused(
    change: dict[str, Any], said: str, report: techo.LoadReport
) -> None:
    """The text says what is missing."""
    with pytest.raises(ValueError, match=said):
        techo.LoadReport.from_json(report.to_json() | change)


def test_rules_are_about_the_probe(report: techo.LoadReport) -> None:
    """Under load, if they do not say otherwise; without a probe there are no such figures."""
    figures = figures_of_load(report)
    fired = {
        "probe.p50>39ms": True,
        "probe.p50>51ms": False,
        "probe.idle.max>11ms": False,
        "probe.after.p90<9ms": False,
        "probe.growth>29ms": True,
        "probe.lost>0": False,
        "responsiveness<2000": True,
        "responsiveness<1000": False,
    }
    for text, fires in fired.items():
        assert (Rule.parse(text, LOAD).judge(figures) is not None) == fires, text
    without = figures_of_load(attrs.evolve(report, probe=None))
    assert {without[name] for name in PROBED} == {None}


async def test_one_port_is_not_for_two() -> None:
    """The text says whose the other connection is."""
    options = techo.SocketOptions(source_port=9)
    with pytest.raises(ValueError, match=r"source port 9: .* probe 10 has one of its own"):
        await techo.load("tcp://127.0.0.1:9", connections=1, probe=10, options=options)


async def test_too_short_a_load_is_said_to_be(autojump_clock: Clock) -> None:
    """There are no figures of a few probes that look like figures of many."""
    report, probe = await probed(Queue(), seconds=1.0)
    assert probe.loaded.received == pytest.approx(10, abs=1)
    assert probe.round_trips_per_minute is None
    assert "responsiveness takes 20 probes under load: load for longer" in str(report)


@pytest.mark.parametrize("rate", [0, -1, 1001, True, math.inf])
async def test_a_rate_that_makes_no_sense_is_refused(rate: float) -> None:
    """The text names it."""
    with pytest.raises(ValueError, match=f"probe {rate!r} is not a number of probes per sec"):
        await techo.load("tcp://127.0.0.1:9", probe=rate)
