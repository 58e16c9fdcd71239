"""Load whose trips come at random or from a slow start, in virtual time: all are made."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
import trio.testing

import techo
from loads import check
from techo._load.load import carry_out
from techo._load.plan import LoadPlan
from techo._load.sharing import divide
from techo._probing.arrivals import DueTimes, RisingRate
from techo.testing import Delay, MemoryStream, open_memory_server

Clock = trio.testing.MockClock


async def test_trips_at_random_are_repeated_by_their_seed(autojump_clock: Clock) -> None:
    """The report names the seed, and the same moments have the same response times."""

    async def at_random(seed: int | None) -> techo.LoadReport:
        async with open_memory_server(faults=[Delay(0.015)]) as server:
            return check(
                await techo.load(
                    server.connect,
                    connections=1,
                    rate=50,
                    seconds=4,
                    timeout=100,
                    arrivals="poisson",
                    seed=seed,
                )
            )

    first, other = await at_random(4711), await at_random(None)
    same = await at_random(first.seeds[0])
    assert first.seeds == same.seeds != other.seeds
    assert first.arrivals is techo.Arrivals.POISSON
    assert first.response is not None
    assert same.response is not None
    assert other.response is not None
    assert same.received == first.received
    # What goes through a float may be less by a nanosecond.
    assert abs(first.response.sum - same.response.sum) <= first.received
    assert abs(first.response.sum - other.response.sum) > first.received
    # One server takes 15 ms for each: a queue, in which the next waits for those before it.
    free, waits = 0.0, 0.0
    for due in itertools.islice(DueTimes(RisingRate(50), 4711), first.received):
        waits += max(0.0, free - due)
        free = max(free, due) + 0.015
    assert waits > 0.5
    assert first.send_lag is not None
    assert first.send_lag.sum / 1e9 == pytest.approx(waits)
    assert first.unsent == 0


@pytest.mark.parametrize(
    ("options", "received", "seconds"),
    [
        ({"ramp": 4, "seconds": 10}, 80, 10.0),
        ({"ramp": 4, "seconds": 10, "warm_up": 4}, 100, 10.0),
        ({"ramp": 4, "seconds": 2}, 5, 2.0),
        ({"ramp": 4, "trips": 20}, 20, 4.0),
        ({"ramp": 4, "trips": 45, "arrivals": "poisson", "seed": 1}, 45, 6.5),
    ],
)
async def test_a_rate_that_rises_brings_as_many_as_its_integral(
    autojump_clock: Clock, options: dict[str, Any], received: int, seconds: float
) -> None:
    """All of them are sent when they are due, and the time is what was asked for."""
    async with open_memory_server(faults=[Delay(0.01)]) as server:
        report = check(await techo.load(server.connect, connections=20, rate=10, **options))
    assert (report.received, report.unsent, report.ramp_seconds) == (received, 0, 4)
    assert report.seconds == pytest.approx(seconds, abs=0.5 if "seed" in options else 0.02)
    assert report.send_lag is not None
    assert report.send_lag.max == 0


async def test_a_trip_that_is_due_in_the_ramp_may_be_unsent(autojump_clock: Clock) -> None:
    """What is due follows the rate, also where nothing can be sent."""
    async with open_memory_server(faults=[Delay(100)]) as server:
        report = check(
            await techo.load(
                server.connect, connections=3, rate=10, seconds=4, ramp=4, timeout=10
            )
        )
    assert report.received == 0
    assert report.lost + report.unsent == 20
    assert report.unsent > 10


async def test_without_a_rate_connections_begin_one_after_the_other(
    autojump_clock: Clock,
) -> None:
    """Each is opened when it begins, the first at once; those that come too late never are."""
    opened: list[float] = []
    async with open_memory_server(faults=[Delay(0.5)]) as server:

        async def connect() -> MemoryStream:
            opened.append(trio.current_time())
            return await server.connect()

        report = check(await techo.load(connect, connections=5, ramp=5, seconds=3.75))
    assert opened == [0, 1, 2, 3]
    assert report.received == 8 + 6 + 4 + 2
    assert (report.connects, report.reconnects) == (3, 0)


@pytest.mark.parametrize(("share", "moments"), [(0, [0, 3, 6]), (1, [0, 4, 7]), (2, [0, 5, 8])])
async def test_shares_open_their_connections_in_turn(
    autojump_clock: Clock, share: int, moments: list[float]
) -> None:
    """The first of each is there at once; the others are opened as if one had them all."""
    opened: list[float] = []
    plan = divide(LoadPlan(connections=9, ramp=9.0, seconds=9.0), 3)[share]
    async with open_memory_server(faults=[Delay(0.5)]) as server:

        async def connect() -> MemoryStream:
            opened.append(trio.current_time())
            return await server.connect()

        check(await carry_out(plan, connect))
    assert opened == pytest.approx(moments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"arrivals": "poisson"}, "arrivals poisson: give a rate, too"),
        ({"arrivals": "often"}, "arrivals 'often' are neither 'uniform' nor 'poisson'"),
        ({"rate": 5, "seed": 1}, "seed 1: give arrivals poisson, which alone"),
        ({"rate": 5, "seed": -1, "arrivals": "poisson"}, "seed -1 is not a whole number"),
        ({"ramp": 0}, "ramp 0 is not a number of seconds above 0"),
        (
            {"reconnect_every": 1, "options": techo.SocketOptions(source_port=7)},
            "source port 7: a port is for one connection, and reconnect_every 1 has many",
        ),
        ({"reconnect_every": 0}, "reconnect_every 0 is not a whole number from 1"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    """Before anything is connected, with the value and the remedy."""
    with pytest.raises(ValueError, match=words):
        await techo.load("127.0.0.1:1", connections=1, **options)
