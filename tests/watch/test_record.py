"""The record of a target: in which minute a probe counts, and what a late reply changes."""

from __future__ import annotations

import itertools
import math

import attrs
import pytest

import techo
from techo._probing.failure_cause import FailureCause
from techo._probing.in_flight import Run
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule
from techo._probing.trip import Ending, Trip, TripState
from techo._watch.counts import Counts, Span
from techo._watch.record import Record

BEGIN = 1_000_000_040.0
"""Unix time when the run's clock is 0: 20 s into a minute."""

NO_REPLY = Ending(FailureCause.TIMEOUT_REPLY, "no reply within 1 s")


@attrs.define
class Watched:
    """One target, whose probes are reported by hand."""

    now: float = 0.0
    spans: list[Span] = attrs.field(factory=list)
    record: Record = attrs.field(init=False)
    numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))

    def __attrs_post_init__(self) -> None:
        schedule = Schedule(0.0, 0.0, math.inf, None, 1.0)
        target = techo.WatchTarget(endpoint="127.0.0.1:1")
        self.record = Record(target, lambda: BEGIN + self.now, self.spans.append, _ignore)
        self.record.run = Run(
            schedule=schedule,
            payloads=Payloads(64, least=64),
            sizes=itertools.repeat(64),
            pipeline=math.inf,
            timeout=1.0,
            sink=self.record,
            take=schedule.take,
            clock=lambda: self.now,
        )
        self.record.start(0.0)

    def probe(self) -> Trip:
        """Send the next probe."""
        return Trip(next(self.numbers), bytes(64), self.now, self.now)

    def lose(self, trip: Trip) -> None:
        """Take it for lost."""
        trip.state, trip.ending = TripState.LOST, NO_REPLY
        self.record.add(trip)

    def answer(self, trip: Trip, state: TripState = TripState.ANSWERED) -> None:
        """Have its reply come now."""
        trip.state, trip.arrived = state, self.now
        self.record.add(trip)


def _ignore(_change: techo.Change) -> None:
    """Take no interest in changes."""


def figures(counts: Counts) -> tuple[int, int, int]:
    """Return what was received, lost and late."""
    return counts.received, counts.lost, counts.late


@pytest.fixture
def watched() -> Watched:
    """One target."""
    return Watched()


@pytest.mark.parametrize("state", [TripState.ANSWERED, TripState.LATE])
def test_what_was_lost_and_comes_is_lost_no_more(watched: Watched, state: TripState) -> None:
    """It is received, and late if it was; in its minute, the two minutes, and in all."""
    trip = watched.probe()
    watched.now = 1.0
    watched.lose(trip)
    assert figures(watched.record.minute().counts) == (0, 1, 0)
    watched.now = 1.5
    watched.answer(trip, state)
    expected = 1, 0, int(state is TripState.LATE)
    snapshot = watched.record.snapshot()
    for counts in (watched.record.minute().counts, snapshot.recent, snapshot.total):
        assert figures(counts) == expected


def test_what_comes_in_another_minute_is_taken_from_that(watched: Watched) -> None:
    """The minute that is over stays as it was, so that the sum of both is right."""
    trip = watched.probe()
    watched.now = 39.5
    watched.lose(trip)
    watched.now = 40.5
    watched.answer(trip, TripState.LATE)
    assert figures(watched.spans[0].counts) == (0, 1, 0)
    minute = watched.record.minute().counts
    assert (minute.failures, minute.lost) == ({FailureCause.TIMEOUT_REPLY: -1}, 0)
    assert figures(watched.record.snapshot().recent) == (1, 0, 1)


def test_a_probe_counts_in_the_minute_in_which_it_is_over(watched: Watched) -> None:
    """That is so whether anybody has looked at the clock since the last one or not."""
    watched.answer(watched.probe())
    watched.now = 40.0
    watched.answer(watched.probe())
    assert [(each.start, each.counts.received) for each in watched.spans] == [(BEGIN - 20, 1)]
    minute = watched.record.minute()
    assert (minute.start, minute.counts.received) == (BEGIN + 40, 1)


def test_what_is_recent_are_the_minute_that_goes_on_and_the_one_before(
    watched: Watched,
) -> None:
    """What is older is in the total alone."""
    for watched.now in (0.0, 40.0, 100.0):
        watched.answer(watched.probe())
    snapshot = watched.record.snapshot()
    assert (snapshot.recent.received, snapshot.total.received) == (2, 3)
