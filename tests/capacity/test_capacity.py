"""Capacity in virtual time: servers whose queue is known, that halt, that are away."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from loads import connecting
from techo._capacity.capacity import find
from techo._capacity.client import Pulse
from techo._capacity.plan import SearchPlan
from techo._load.load import carry_out
from techo._load.part import LoadPart
from techo._load.plan import LoadPlan
from techo.testing import MemoryStream

Clock = trio.testing.MockClock
Watch = Callable[[techo.LoadReport], None]
Peer = Callable[[MemoryStream], Awaitable[None]]

COST = 0.0047
"""Seconds that a server takes for a message."""


def one_at_a_time(cost: float) -> Peer:
    """A server that takes so long for each message, and has one at a time in hand."""
    turn = trio.Lock()

    async def serve(stream: MemoryStream) -> None:
        while data := await stream.receive_some():
            async with turn:
                await trio.sleep(cost)
            await stream.send_all(data)

    return serve


def all_at_once(cost: float) -> Peer:
    """A server that takes so long for each message, of any number at a time."""

    async def serve(stream: MemoryStream) -> None:
        while data := await stream.receive_some():
            await trio.sleep(cost)
            await stream.send_all(data)

    return serve


def percentile_in_theory(step: techo.CapacityStep, warm_up: float, percent: float) -> float:
    """The response time of a step, in s, with a queue where each message takes COST."""
    times, free = [], 0.0
    total = round((warm_up + step.seconds) * step.rate)
    for number in range(total):
        due = number / step.rate
        free = max(due, free) + COST
        if due >= warm_up - 1e-9:
            times.append(free - due)
    return sorted(times)[math.ceil(round(len(times) * percent / 100, 6)) - 1]


@pytest.mark.parametrize(("limit", "precision"), [(0.01, 0.05), (0.1, 0.1)])
async def test_the_capacity_of_a_known_queue_is_what_theory_says(
    autojump_clock: Clock, nursery: trio.Nursery, limit: float, precision: float
) -> None:
    """To within the precision; and every step on the way had theory's verdict."""
    found = await techo.capacity(
        connecting(nursery, one_at_a_time(COST)),
        f"p90<{limit:g}s",
        start=100,
        seconds=0.4,
        precision=precision,
        warm_up=0.05,
    )
    assert found.outcome is techo.CapacityOutcome.FOUND
    assert found.confirmed
    assert found.rate is not None
    assert found.failed_rate is not None
    for step in found.steps:
        in_theory = percentile_in_theory(step, 0.05, 90)
        if in_theory != pytest.approx(limit, rel=0.01):  # which is what buckets tell apart
            assert step.held == (in_theory < limit), step
        assert step.client is None
        if step.held:
            assert step.report.percentile(90) == pytest.approx(in_theory * 1e9, rel=0.01)
    assert 1 / COST / (1 + precision) <= found.rate <= 1 / COST * (1 + precision)
    assert found.rate < found.failed_rate <= found.rate * (1 + precision)
    assert found.held_trips == sum(round(each.seconds * each.rate) for each in found.held)


async def test_a_queue_that_grows_is_no_capacity_even_if_all_of_it_is_answered(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """An SLO about loss alone holds at any rate, but no server keeps up with any."""
    found = await techo.capacity(
        connecting(nursery, one_at_a_time(COST)),
        "loss<1%",
        start=100,
        seconds=1,
        precision=0.1,
        warm_up=0.05,
    )
    assert found.outcome is techo.CapacityOutcome.FOUND
    assert found.rate is not None
    assert 1 / COST / 1.15 <= found.rate <= 1 / COST * 1.15
    assert found.failed[-1].missed[0].startswith("it fell behind: took ")


async def test_a_server_that_halts_gets_no_credit(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """It halts for 50 ms in each 170, which a client that waits for it hardly sees."""

    async def serve(stream: MemoryStream) -> None:
        while data := await stream.receive_some():
            phase = trio.current_time() % 0.17
            await trio.sleep(0.001 + max(0.0, 0.05 - phase))
            await stream.send_all(data)

    connect = connecting(nursery, serve)
    closed = await techo.load(connect, connections=1, seconds=1)
    assert closed.service.percentile(90) == pytest.approx(1e6, rel=0.01)
    found = await techo.capacity(connect, "p90<10ms", start=160, seconds=0.5, connections=1)
    assert found.outcome is techo.CapacityOutcome.LOWEST_FAILED
    assert (found.rate, found.failed_rate) == (None, 2.5)
    assert {each.verdict for each in found.steps} == {techo.StepVerdict.FAILED}
    assert all(each.missed[0].startswith("p90<10ms (") for each in found.steps)


async def test_too_few_connections_are_the_client_s_limit(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """What holds is a lower bound then; with more connections the server does more."""
    connect = connecting(nursery, all_at_once(0.01))
    options: dict[str, Any] = {"start": 50, "max_rate": 400, "seconds": 0.4, "precision": 0.1}
    few = await techo.capacity(connect, "p90<20ms", connections=2, **options)
    assert few.outcome is techo.CapacityOutcome.CLIENT_LIMIT
    assert few.rate == 200
    assert few.failed[-1].client == (
        "all connections (2) were busy, and the server no slower than before"
    )
    assert str(few).splitlines()[-3].endswith(": at least 200/s with p90<20ms")
    many = await techo.capacity(connect, "p90<20ms", connections=8, **options)
    assert (many.outcome, many.rate) == (techo.CapacityOutcome.FOUND, 400)
    assert many.failed_rate is None


async def test_connections_that_a_rate_breaks_are_failures(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """A server that drops one at the 31st message within 0.1 s holds less than that."""
    seen: list[float] = []

    async def serve(stream: MemoryStream) -> None:
        while data := await stream.receive_some():
            now = trio.current_time()
            seen[:] = [*(each for each in seen if each > now - 0.1), now]
            if len(seen) > 30:
                return
            await stream.send_all(data)

    found = await techo.capacity(
        connecting(nursery, serve), "loss<50%", start=100, seconds=0.3, precision=0.1
    )
    assert found.outcome is techo.CapacityOutcome.FOUND
    assert found.rate is not None
    assert 270 <= found.rate <= 300
    assert any("reconnects==0" in each for each in found.failed[-1].missed)


async def test_nobody_there_ends_the_search_at_once() -> None:
    """No other rate would come out better."""

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError

    found = await techo.capacity(connect, "p99<5ms")
    assert found.outcome is techo.CapacityOutcome.NEVER_REACHED
    assert [each.verdict for each in found.steps] == [techo.StepVerdict.NEVER_REACHED]
    assert (found.rate, found.failed_rate, found.confirmed) == (None, None, False)


@pytest.fixture
def quick(nursery: trio.Nursery) -> Callable[[], Awaitable[MemoryStream]]:
    """What connects to a server that holds any rate."""
    return connecting(nursery, all_at_once(0.01))


async def test_a_search_that_is_stopped_tells_what_it_knows(
    autojump_clock: Clock, quick: Callable[[], Awaitable[MemoryStream]]
) -> None:
    """The step that was cut short is left out."""
    stop = trio.Event()
    seen: list[techo.CapacityStep] = []

    def watch(step: techo.CapacityStep) -> None:
        seen.append(step)
        if len(seen) == 2:
            stop.set()

    found = await techo.capacity(
        quick, "p90<1s", start=10, seconds=1, warm_up=0, watch=watch, stop=stop
    )
    assert found.outcome is techo.CapacityOutcome.UNFINISHED
    assert found.steps == tuple(seen)
    assert (found.rate, found.failed_rate, found.confirmed) == (20, None, False)
    assert "at least 20/s" in str(found)
    assert "not confirmed" in str(found)


@pytest.mark.parametrize("slo", ["p50<1s", ["p50<1s", "unsent<9"]], ids=["missed", "held"])
async def test_a_machine_that_dies_ends_the_search_with_what_was_found(
    slo: str | list[str], autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """The server is not blamed for what was not sent, and no other load is begun."""
    connect = connecting(nursery, one_at_a_time(COST))

    async def by_a_fleet(
        plan: LoadPlan, *, watch: Watch | None = None, stop: trio.Event | None = None
    ) -> techo.LoadReport:
        report = await carry_out(plan, connect, watch=watch, stop=stop)
        died = "the scheduler has lost it" if plan.rate == 80 else None
        part = LoadPart.of("10.0.0.3:9000", report, died)
        return attrs.evolve(report, unsent=0 if died is None else 5, parts=[part])

    search, load = SearchPlan(slo=slo, start=40, seconds=0.5), LoadPlan(warm_up=0.0)
    found = await find(search, load, by_a_fleet, "tcp://a:1", elsewhere=True)
    assert [each.rate for each in found.steps] == [40, 80]
    assert (found.outcome, found.rate) == (techo.CapacityOutcome.CLIENT_LIMIT, 40)
    assert found.steps[-1].client == "10.0.0.3:9000 died"
    assert "at least 40/s" in str(found)


async def test_steps_that_run_out_leave_a_search_unfinished(
    autojump_clock: Clock, quick: Callable[[], Awaitable[MemoryStream]]
) -> None:
    """What is known by then is there."""
    found = await techo.capacity(quick, "p90<1s", start=10, seconds=1, max_steps=2)
    assert (found.outcome, found.rate) == (techo.CapacityOutcome.UNFINISHED, 20)


async def test_a_cancelled_search_leaves_nothing_running(
    autojump_clock: Clock, quick: Callable[[], Awaitable[MemoryStream]]
) -> None:
    """Its connections are closed, and it gives no result."""
    with trio.move_on_after(3.3) as scope:
        await techo.capacity(quick, "p90<1s", start=10)
    assert scope.cancelled_caught
    assert trio.current_time() == 3.3


async def test_how_late_this_program_is_counts_for_each_beat(autojump_clock: Clock) -> None:
    """A stall of 0.3 s is seen as a load would see it: by all that was due meanwhile."""
    pulse = Pulse(counts_from=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.beat)
        await trio.sleep(1.01)
        assert (pulse.lags.count, pulse.lags.max) == (50, 0)
        autojump_clock.jump(0.3)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    late = sum(count for lag, count in pulse.lags.durations() if lag > 1e6)
    assert late == 15
    assert pulse.lags.max == pytest.approx(0.29e9, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"slo": []}, "there is no SLO"),
        ({"slo": "p99>5ms"}, "did you mean p99<5ms"),
        ({"start": 0}, "start 0 is not"),
        ({"start": 10, "max_rate": 5}, "start 10 is above max_rate 5"),
        ({"precision": 2}, "precision 2 is not a number above 0, up to 1"),
        ({"max_steps": 0}, "max_steps 0 is not"),
        ({"connections": 0}, "connections 0 is not"),
    ],
)
async def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], reason: str) -> None:
    """Before anything is tried, with the name and the value."""
    with pytest.raises(ValueError, match=reason):
        await techo.capacity("127.0.0.1:1", **{"slo": "p99<5ms"} | wrong)
