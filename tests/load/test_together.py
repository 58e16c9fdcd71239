"""Together: shares that begin at one moment, report as one, and may die."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

import techo
from techo._load.interval import until_given_up
from techo._load.load import carry_out
from techo._load.plan import LoadPlan
from techo._load.sharing import divide
from techo._load.together import Together, abandoned, nothing
from techo._probing.arrivals import Arrivals
from techo.testing import Delay, open_memory_server

Clock = trio.testing.MockClock

PLACE = "tcp://127.0.0.1:8009"


def together(plan: LoadPlan, shares: int = 2) -> Together:
    """Return so many shares of a plan."""
    names = [f"process {number + 1}" for number in range(shares)]
    return Together.of(PLACE, divide(plan, shares), names)


def some(plan: LoadPlan, count: int) -> techo.LoadReport:
    """Return a report of so many trips, of a millisecond each."""
    times = techo.Histogram.of([10**6] * count)
    scheduled = plan.rate is not None
    return attrs.evolve(
        nothing(PLACE, plan),
        received=count,
        received_bytes=count * plan.size,
        seconds=1.0,
        service=times,
        response=times if scheduled else None,
        send_lag=techo.Histogram.of([0] * count) if scheduled else None,
    )


@pytest.mark.parametrize("warm_up", [0.0, 1.0])
async def test_a_load_begins_when_that_was_agreed_on(
    autojump_clock: Clock, warm_up: float
) -> None:
    """It connects, waits, and begins at the very moment; the wait is no part of it."""
    asked = []

    async def agree(reached: bool) -> float:  # noqa: FBT001  -- see `Agree`
        asked.append(reached)
        await trio.sleep(5)  # of the clock, which jumps
        return 7.0

    plan = LoadPlan(connections=2, rate=4, seconds=2.0, warm_up=warm_up)
    async with open_memory_server(faults=[Delay(0.125)]) as server:
        report = await carry_out(plan, server.connect, agree=agree)
        assert server.statistics().accepted == 2
        assert asked == [True]
        assert trio.current_time() == 7 + warm_up + 1.75 + 0.125  # when the last was back
    assert (report.received, report.seconds) == (8, 2)
    assert report.send_lag is not None
    assert report.send_lag.max == 0


async def test_a_load_that_need_not_begin_does_not(autojump_clock: Clock) -> None:
    """Nothing is sent, and its report is of nothing."""

    async def agree(_reached: bool) -> None:  # noqa: FBT001  -- see `Agree`
        await trio.sleep(1)  # of the clock, which jumps

    async with open_memory_server() as server:
        report = await carry_out(LoadPlan(trips=5), server.connect, agree=agree)
        assert server.statistics().bytes_in == 0
    assert (report.received, report.unsent, report.seconds) == (0, 0, 0)


@pytest.mark.parametrize("moment", [None, 1000.0])
async def test_a_load_is_stopped_while_it_waits_to_begin(
    autojump_clock: Clock, moment: float | None
) -> None:
    """It waits no longer, neither for the others nor for the moment."""
    stop = trio.Event()

    async def agree(_reached: bool) -> float:  # noqa: FBT001  -- see `Agree`
        if moment is None:
            await trio.sleep_forever()
        return moment or 0

    async with open_memory_server() as server, trio.open_nursery() as nursery:

        async def end() -> None:
            await trio.sleep(3)  # of the clock, which jumps
            stop.set()

        nursery.start_soon(end)
        report = await carry_out(LoadPlan(), server.connect, agree=agree, stop=stop)
    assert (report.received, trio.current_time()) == (0, 3)


async def test_all_wait_for_the_last_one(autojump_clock: Clock) -> None:
    """Who is over without a connection is not waited for, and one connection is enough."""
    shares = together(LoadPlan(), 3)
    first, second, third = shares.shares
    begun = []

    async def wait() -> None:
        begun.append((await shares.until_ready(), trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)  # of the clock, which jumps
        shares.ready(first, reached=False)
        await trio.sleep(1)  # of the clock, which jumps
        shares.bury(second, "it was ended by signal 9")
        await trio.sleep(1)  # of the clock, which jumps
        assert not begun
        shares.ready(third, reached=True)
    assert begun == [(True, 3)]


async def test_nobody_begins_where_nobody_is_reached() -> None:
    """A load that could reach nobody is over at once."""
    shares = together(LoadPlan())
    for each in shares.shares:
        shares.ready(each, reached=False)
    assert not await shares.until_ready()


async def test_reports_are_shown_when_all_have_reported(autojump_clock: Clock) -> None:
    """Each sum has one more of each; one that is late delays it for half a second only."""
    plan, seen = LoadPlan(), list[tuple[float, int]]()
    shares = together(plan)
    first, second = shares.shares

    def watch(report: techo.LoadReport) -> None:
        seen.append((trio.current_time(), report.received))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(shares.show, watch)
        shares.take(first, some(first.plan, 1))
        await trio.sleep(0.1)  # of the clock, which jumps
        shares.take(second, some(second.plan, 10))
        await trio.sleep(0.1)  # of the clock, which jumps
        shares.take(first, some(first.plan, 2))
        await trio.sleep(1)  # of the clock, which jumps
        shares.take(first, some(first.plan, 3), over=True)
        shares.take(second, some(second.plan, 20), over=True)
    assert seen == [(0.1, 11), (0.6, 12), (1.2, 23)]


@pytest.mark.parametrize(
    ("plan", "unsent"),
    [
        (LoadPlan(trips=101), 51 - 7),
        (LoadPlan(rate=30, seconds=2.0), 30 - 7),
        (LoadPlan(rate=30), 150 - 7),
        (LoadPlan(rate=30, seconds=2.0, ramp=2.0), 15 - 7),
        (LoadPlan(rate=30, seconds=2.0, ramp=2.0, warm_up=2.0), 30 - 7),
        (LoadPlan(rate=30, seconds=2.0, arrivals=Arrivals.POISSON), 30 - 7),
        (LoadPlan(), 2),
    ],
    ids=["trips", "rate", "rate by default", "ramp", "ramped", "poisson", "no limit"],
)
def test_what_the_dead_did_not_report_is_unsent(plan: LoadPlan, unsent: int) -> None:
    """It keeps what it reported; what was in flight is unsent where nothing else is known."""
    shares = together(plan)
    first, second = shares.shares
    shares.take(first, attrs.evolve(some(first.plan, 7), in_flight=2))
    shares.take(second, some(second.plan, 9), over=True)
    shares.bury(first, "it was ended by signal 9")
    found = shares.report()
    assert (found.received, found.in_flight, found.unsent) == (16, 0, unsent)
    assert found.seconds == (first.plan.asked or 1.0)  # no credit for what it did before
    one, other = found.parts
    assert (one.name, one.received, one.unsent) == ("process 1", 7, unsent)
    assert (one.died, other.died) == ("it was ended by signal 9", None)
    assert (other.name, other.received, other.p50) == ("process 2", 9, 10**6)
    assert "process 1 died: it was ended by signal 9" in str(found)
    assert "no connection was free" not in str(found)


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan(rate=4.0, trips=2, connections=2, ramp=1.0),
        LoadPlan(rate=4.0, trips=2, connections=2, arrivals=Arrivals.POISSON, seed=5),
        LoadPlan(trips=2, connections=2, ramp=1.0, reconnect_every=1),
    ],
    ids=["rate", "poisson", "ramp"],
)
async def test_who_has_not_reported_yet_adds_nothing(
    autojump_clock: Clock, plan: LoadPlan
) -> None:
    """The others' reports are shown, and what it was to do is that of the whole load."""
    shares = together(plan)
    first, _ = shares.shares
    async with open_memory_server() as server:
        report = await carry_out(first.plan, server.connect)
    shares.take(first, report, over=True)
    found = shares.report()
    for name in ("arrivals", "ramp_seconds", "reconnect_every"):
        assert getattr(found, name) == getattr(report, name)
    assert (found.received, found.rate) == (report.received, plan.rate)
    assert found.seeds == (() if plan.seed is None else (5, 6))


async def test_who_gave_up_does_not_end_what_is_shown(autojump_clock: Clock) -> None:
    """The sum lasts as long as any other goes on, and no longer where all gave up."""
    shares, seen = together(LoadPlan(seconds=9.0)), list[float]()
    first, second = shares.shares
    gone = attrs.evolve(nothing(PLACE, first.plan), seconds=9.0, gave_up_after_seconds=1.5)
    for seconds in (5.0, 9.0):
        shares.take(first, gone, over=True)
        report = attrs.evolve(some(second.plan, 9), seconds=seconds)
        shares.take(second, report, over=True)
        await shares.show(lambda report: seen.append(until_given_up(report).seconds))
    shares.take(second, attrs.evolve(gone, gave_up_after_seconds=2.5), over=True)
    await shares.show(lambda report: seen.append(until_given_up(report).seconds))
    assert seen == [5.0, 9.0, 2.5]
    assert shares.report().seconds == 9.0
    assert "the first gave up after 1.500 s: nothing came back to it" in str(shares.report())


async def test_who_died_does_not_end_what_is_shown(autojump_clock: Clock) -> None:
    """The others' next reports are shown when they were; the whole gets no credit for it."""
    shares, seen = together(LoadPlan(rate=30, seconds=9.0)), list[tuple[float, int]]()
    first, second = shares.shares
    shares.take(first, some(first.plan, 7))
    shares.bury(first, "it was ended by signal 9")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            shares.show, lambda report: seen.append((report.seconds, report.received))
        )
        for seconds in (2.0, 3.0):
            report = attrs.evolve(some(second.plan, 9), seconds=seconds)
            shares.take(second, report, over=seconds == 3)
            await trio.sleep(1)  # of the clock, which jumps
    assert seen == [(2.0, 16), (3.0, 16)]
    assert shares.report().seconds == 9.0


def test_outages_of_all_shares_are_in_the_sum() -> None:
    """They have begun together, so that their seconds are the same."""
    shares = together(LoadPlan())
    for each, spans in zip(
        shares.shares, ([(1.0, 2.0), (5.0, 6.0)], [(1.5, 2.5)]), strict=True
    ):
        report = attrs.evolve(some(each.plan, 5), outage_spans=spans)
        shares.take(each, report, over=True)
    assert shares.report().outage_spans == [(1.0, 2.0), (1.5, 2.5), (5.0, 6.0)]


def test_what_was_stopped_is_not_unsent() -> None:
    """Of a share that dies after Ctrl-C only what was in flight is missing."""
    plan = LoadPlan(rate=30)
    report = attrs.evolve(some(plan, 7), in_flight=2)
    assert abandoned(report, plan, stopped=True).unsent == 2


def test_the_text_names_who_was_its_own_limit() -> None:
    """It is in the line of the client, and the others are not."""
    shares = together(LoadPlan())
    for each, percent in zip(shares.shares, (50.0, 97.0), strict=True):
        report = some(each.plan, 5)
        limit = percent > 90
        shares.take(
            each, attrs.evolve(report, client_cpu_percent=percent, client_was_limit=limit)
        )
    text = " ".join(str(shares.report()).split())
    assert "97 % of a core at most: process 2 WAS ITS OWN LIMIT; share the load" in text


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan(connections=2, trips=4, ramp=0.5, reconnect_every=2),
        LoadPlan(connections=2, trips=4, rate=8.0, ramp=0.5),
        LoadPlan(connections=2, trips=4, rate=8.0, ramp=0.5, arrivals="poisson", seed=7),
    ],
    ids=["closed", "uniform", "poisson"],
)
async def test_one_may_report_before_another_has(autojump_clock: Clock, plan: LoadPlan) -> None:
    """As one that probes does: all that is known of the others is their plan."""
    first, second = divide(plan, 2)
    async with open_memory_server(faults=[Delay(0.125)]) as server:
        report = await carry_out(first, server.connect)
    merged = techo.LoadReport.merged([report, nothing(PLACE, second)])
    assert (merged.arrivals, merged.ramp_seconds) == (report.arrivals, 0.5)
    assert merged.received == 2
