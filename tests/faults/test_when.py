"""When faults happen: to which connections and datagrams, by their number and the time."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from techo._faults.plan import Planner
from techo.testing import Corrupt, Fault, Refuse, Reset, open_memory_server


async def hit(
    fault: Fault, *, seed: int = 0, period: float = 1.0, count: int = 12
) -> list[int]:
    """Return which connections are hit, one of which comes each `period`, from 0 s on."""
    planner = Planner([fault], seed)
    planner.begin()
    numbers = []
    for _ in range(count):
        plan = planner.next()
        numbers += [plan.number] * len(plan.chosen)
        await trio.sleep(1)  # of the clock, which jumps
    return numbers


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        (Reset(first=3), [1, 2, 3]),
        (Reset(skip=2, first=3), [3, 4, 5]),
        (Reset(skip=9), [10, 11, 12]),
        (Reset(every=5), [5, 10]),
        (Reset(every=2, first=3), [2, 4, 6]),
        (Reset(every=2, first=2, skip=3), [5, 7]),
        # They come at 0 s, 1 s, 2 s and so on, and a window ends before its end.
        (Reset(between=(2, 4)), [3, 4]),
        (Reset(between=(9, math.inf)), [10, 11, 12]),
        (Reset(between=(4, 50), skip=1, first=2), [6, 7]),
        (Reset(between=(4, 50), every=3), [7, 10]),
        (Reset(between=(0.5, 0.6)), []),
    ],
    ids=str,
)
async def test_number_and_time_say_which_connections_are_hit(
    fault: Fault, numbers: list[int], autojump_clock: trio.testing.MockClock
) -> None:
    """The time counts first, then those that are skipped, then every nth, then the first."""
    assert await hit(fault) == numbers


async def test_a_seed_hits_what_it_has_always_hit(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The chance of a connection depends on seed, number and place of the fault alone."""
    numbers = [1, 2, 8, 9, 10, 11, 14, 15]  # as they were before `skip` and `first` came
    assert await hit(Corrupt(1, probability=0.3), seed=7, count=20) == numbers
    fault = Corrupt(1, probability=0.3, skip=8, first=6)
    assert await hit(fault, seed=7, count=20) == [9, 10, 11, 14]


async def test_a_client_that_tries_again_succeeds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first connections are refused, and the next is served."""
    async with open_memory_server(faults=[Refuse(first=2)]) as server:
        answers = []
        for _ in range(4):
            stream = await server.connect()
            await stream.send_eof()
            await stream.receive_some()
            await stream.aclose()
            answers.append(len(server.history))
    assert answers == [1, 2, 2, 2]


async def test_the_time_begins_when_the_server_listens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A period counts from there, not from the first connection."""
    await trio.sleep(100)  # of the clock, which jumps
    async with open_memory_server(faults=[Refuse(between=(5, 10))]) as server:
        refused = []
        for _ in range(4):
            await trio.sleep(3)  # of the clock, which jumps
            stream = await server.connect()
            await stream.send_eof()
            await stream.receive_some()
            refused.append(len(server.history))
            await stream.aclose()
    assert refused == [0, 1, 2, 2]
