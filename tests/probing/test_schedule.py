"""The schedule: how many trips are due, and when; pure, with any clock."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._probing.schedule import Schedule

BEGINS = st.one_of(st.just(0.0), st.floats(0, 10**6))
"""Trio's clock begins anywhere up to a million seconds."""

RATES = st.integers(1, 400)
HUNDREDTHS = st.integers(0, 200)
"""Durations as people write them; floats don't know most of them exactly."""

LATER = 10.0**7
"""When everything is past."""


def scheduled(
    *,
    begin: float = 0.0,
    warm_up: float = 0.0,
    seconds: float = math.inf,
    trips: int | None = None,
    rate: float | None = None,
) -> Schedule:
    """A schedule of what a test names."""
    return Schedule(begin, warm_up, seconds, trips, rate)


def take_all(schedule: Schedule, now: float) -> list[float]:
    """Begin every trip that is due by now; give when each was."""
    taken = []
    while (due := schedule.take(now)) is not None:
        taken.append(due)
    return taken


@given(BEGINS, RATES, HUNDREDTHS, st.integers(1, 200))
def test_a_rate_gives_as_many_trips_as_fit_into_the_time(
    begin: float, rate: int, warm_up: int, seconds: int
) -> None:
    """One at the beginning, none at the end; whatever the clock says, none more or less."""
    schedule = scheduled(begin=begin, warm_up=warm_up / 100, seconds=seconds / 100, rate=rate)
    taken = take_all(schedule, LATER)
    in_warm_up = math.ceil(Fraction(warm_up * rate, 100))
    total = math.ceil(Fraction((warm_up + seconds) * rate, 100))
    assert len(taken) == total
    assert sum(map(schedule.counts, taken)) == total - in_warm_up
    assert taken == [begin + number / rate for number in range(total)]
    assert schedule.next_due(LATER) is None


@given(BEGINS, RATES, HUNDREDTHS, st.integers(1, 500))
def test_a_number_of_trips_is_that_of_the_counted(
    begin: float, rate: int, warm_up: int, trips: int
) -> None:
    """Those of the warm-up come before; in the end nothing is unsent."""
    schedule = scheduled(begin=begin, warm_up=warm_up / 100, trips=trips, rate=rate)
    in_warm_up = math.ceil(Fraction(warm_up * rate, 100))
    assert schedule.unsent(LATER) == in_warm_up + trips
    taken = take_all(schedule, LATER)
    assert sum(map(schedule.counts, taken)) == trips
    assert len(taken) == in_warm_up + trips
    assert schedule.unsent(LATER) == 0


@given(BEGINS, RATES, st.integers(1, 200), st.integers(0, 999), st.integers(0, 300))
def test_what_is_due_was_sent_or_is_unsent(
    begin: float, rate: int, seconds: int, taken: int, elapsed: int
) -> None:
    """At any moment; and what is unsent can be sent, until nothing is."""
    schedule = scheduled(begin=begin, seconds=seconds / 100, rate=rate)
    now = begin + elapsed / 100
    some = sum(schedule.take(now) is not None for _ in range(taken))
    due = math.ceil(Fraction(min(elapsed, seconds) * rate, 100))
    assert schedule.unsent(now) == max(0, due - some)
    assert len(take_all(schedule, now + 1e-9)) >= due - some
    assert schedule.unsent(now) == 0


@given(st.lists(st.floats(0, 20), max_size=50), st.floats(0, 5), st.floats(0.1, 10))
def test_without_a_rate_one_is_due_whenever_there_is_room(
    moments: list[float], warm_up: float, seconds: float
) -> None:
    """At once, until the time is over; what there was no room for is not missed."""
    schedule = scheduled(begin=1.0, warm_up=warm_up, seconds=seconds)
    for moment in sorted(moments):
        now = 1.0 + moment
        over = now >= schedule.end - 1e-8
        assert over or (schedule.next_due(now), schedule.take(now)) == (now, now)
        assert schedule.unsent(now) == 0
    assert schedule.end == pytest.approx(1 + warm_up + seconds)
    assert schedule.take(schedule.end) is None


def test_without_a_rate_the_number_is_that_of_the_counted_too() -> None:
    """However many there were in the warm-up."""
    schedule = scheduled(warm_up=1, trips=3)
    assert [schedule.take(0.1 * number) is not None for number in range(10)] == [True] * 10
    assert [schedule.take(1 + number) is not None for number in range(5)] == [True] * 3 + [
        False
    ] * 2


def test_no_trip_begins_before_it_is_due() -> None:
    """Asking does not change what is asked about."""
    schedule = scheduled(begin=10, seconds=1, rate=4)
    assert [schedule.take(now) for now in (9.9, 10, 10.2, 10.25, 10.3)] == [
        None,
        10,
        None,
        10.25,
        None,
    ]
    assert schedule.next_due(10.3) == schedule.next_due(99) == 10.5


def test_nothing_is_due_before_it_has_begun() -> None:
    """The schedule waits for the first connection."""
    schedule = scheduled(begin=math.inf, rate=100, seconds=1)
    assert schedule.take(5.0) is None
    assert schedule.counts_from == schedule.end == math.inf


@pytest.mark.parametrize(("stopped", "due"), [(0.5, 50), (0.501, 51), (0, 0), (7, 100)])
def test_stopping_leaves_what_was_due_by_then(stopped: float, due: int) -> None:
    """That may still be sent; stopping later than the end changes nothing."""
    schedule = scheduled(rate=100, seconds=1)
    schedule.stop(stopped)
    assert schedule.end == min(stopped, 1)
    assert schedule.unsent(LATER) == due
    assert len(take_all(schedule, LATER)) == due
    assert schedule.unsent(LATER) == 0


def test_stopping_without_a_rate_is_the_end() -> None:
    """There is nothing that should have been sent before."""
    schedule = scheduled(trips=100)
    assert schedule.take(1.0) == 1.0
    schedule.stop(2.0)
    assert schedule.take(2.0) is None
    assert schedule.unsent(2.0) == 0


def test_closing_leaves_what_is_unsent_unsent() -> None:
    """It is said for ever after, and can't be sent."""
    schedule = scheduled(rate=100, seconds=1)
    assert len(take_all(schedule, 0.295)) == 30
    schedule.close()
    assert schedule.next_due(5) is None
    assert take_all(schedule, 5) == []
    assert schedule.unsent(5) == schedule.unsent(LATER) == 70
