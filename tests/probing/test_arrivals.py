"""Arrivals: when trips are due at random, or while the rate rises; pure, with any clock."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._probing.arrivals import ArrivalSchedule, DueTimes, RisingRate
from techo._probing.schedule import Schedule

MANY = 20_000
"""Gaps, enough to tell distributions apart."""

RATES = st.builds(RisingRate, st.integers(1, 60), st.sampled_from([0.0, 0.5, 2.0, 10.0]))
TIMES = st.builds(DueTimes, RATES, st.none() | st.integers(0, 2**32))
MOMENTS = st.integers(0, 500).map(lambda hundredths: hundredths / 100)
BEGINS = st.one_of(st.just(0.0), st.floats(0, 10**6))
"""Trio's clock begins anywhere up to a million seconds."""


def scheduled(
    times: DueTimes,
    *,
    begin: float = 0.0,
    warm_up: float = 0.0,
    seconds: float = math.inf,
    trips: int | None = None,
) -> ArrivalSchedule:
    """Return a schedule of what a test names."""
    return ArrivalSchedule(begin, warm_up, seconds, trips, times.rate.rate, times=times)


def take_all(schedule: Schedule, now: float) -> list[float]:
    """Begin every trip that is due by now; return when each was."""
    taken = []
    while (due := schedule.take(now)) is not None:
        taken.append(due)
    return taken


@given(RATES, MOMENTS)
def test_as_many_are_due_as_the_rate_has_brought(rate: RisingRate, moment: float) -> None:
    """Evenly spread trips are never one more or less than the integral of the rate."""
    due = [*itertools.takewhile(lambda each: each < moment - 1e-9, DueTimes(rate))]
    assert len(due) == math.ceil(round(rate.trips_within(moment), 6))
    assert due == sorted(due)
    assert rate.seconds_for(rate.trips_within(moment)) == pytest.approx(moment, abs=1e-9)


@given(TIMES)
def test_due_times_do_not_decrease_and_are_always_the_same(times: DueTimes) -> None:
    """What is asked for again has not changed, whoever has taken how much of it."""
    first = [*itertools.islice(times, 300)]
    assert first == sorted(first)
    assert first[0] >= 0
    assert first == [*itertools.islice(times, 300)]


def distance_to_exponential(gaps: list[float]) -> float:
    """Return the largest difference of the distribution from that with the mean 1."""
    found = sorted(gaps)
    expected = [1 - math.exp(-gap) for gap in found]
    return max(
        max(share - number / len(found), (number + 1) / len(found) - share)
        for number, share in enumerate(expected)
    )


@pytest.mark.parametrize("rate", [RisingRate(250), RisingRate(250, 60)])
@pytest.mark.parametrize("seed", [0, 1, 4711])
def test_gaps_at_random_are_exponential(seed: int, rate: RisingRate) -> None:
    """Measured in trips that the rate has brought, with the mean 1, and none knows another."""
    due = [*itertools.islice(DueTimes(rate, seed), MANY)]
    numbers = [0.0, *map(rate.trips_within, due)]
    gaps = [after - before for before, after in itertools.pairwise(numbers)]
    # Kolmogorov and Smirnov: of a hundred such samples, one is farther away.
    assert distance_to_exponential(gaps) < 1.63 / math.sqrt(MANY)
    assert statistics.correlation(gaps[:-1], gaps[1:]) == pytest.approx(0, abs=0.02)
    assert due[-1] == pytest.approx(MANY / 250 + rate.ramp / 2, rel=0.03)


@given(TIMES, BEGINS, MOMENTS, MOMENTS, MOMENTS, st.integers(0, 300))
def test_what_is_due_was_sent_or_is_unsent(  # noqa: PLR0917  -- they are drawn
    times: DueTimes, begin: float, warm_up: float, seconds: float, elapsed: float, some: int
) -> None:
    """At any moment, also behind the end; and all of it can be sent, until nothing is."""
    schedule = scheduled(times, begin=begin, warm_up=warm_up, seconds=seconds)
    now = begin + elapsed
    begun = sum(schedule.take(now) is not None for _ in range(some))
    due = [each for each in itertools.islice(times, 1000) if each < warm_up + seconds - 1e-9]
    by_now = sum(each < elapsed - 1e-9 for each in due)
    assert schedule.unsent(now) == max(0, by_now - begun)
    taken = take_all(schedule, begin + 1000)
    assert begun + len(taken) == len(due)
    counted = sum(each >= warm_up - 1e-9 for each in due)
    assert sum(map(schedule.counts, taken[-counted:] if counted else [])) == min(
        counted, len(taken)
    )
    assert schedule.unsent(begin + 1000) == 0
    assert schedule.next_due(now) is None


@given(TIMES, BEGINS, MOMENTS, st.integers(1, 500))
def test_a_number_of_trips_is_that_of_the_counted(
    times: DueTimes, begin: float, warm_up: float, trips: int
) -> None:
    """Those of the warm-up come before; in the end nothing is unsent, and none too many."""
    schedule = scheduled(times, begin=begin, warm_up=warm_up, trips=trips)
    in_warm_up = sum(each < warm_up - 1e-9 for each in itertools.islice(times, 1000))
    later = begin + 1000
    assert schedule.unsent(later) == in_warm_up + trips
    taken = take_all(schedule, later)
    assert sum(map(schedule.counts, taken)) == trips
    assert len(taken) == in_warm_up + trips
    assert schedule.unsent(later) == 0
    # As long as the rate takes for so many, whenever the last of them was due.
    rate = times.rate
    brought = rate.trips_within(warm_up + schedule.asked(math.inf))
    assert brought - rate.trips_within(warm_up) == pytest.approx(trips, rel=1e-6)


@given(TIMES, st.lists(MOMENTS, max_size=20))
def test_looking_back_changes_nothing(times: DueTimes, moments: list[float]) -> None:
    """However moments follow each other, each has its own count, and its own next trip."""
    schedule = scheduled(times)
    due = [*itertools.islice(times, 1000)]
    for moment in moments:
        assert schedule.unsent(moment) == sum(each < moment - 1e-9 for each in due)
        assert schedule.due_after(moment) == min(each for each in due if each > moment + 1e-9)


@given(TIMES, MOMENTS, st.booleans())
def test_what_is_missed_is_all_but_the_last(
    times: DueTimes,
    moment: float,
    paused: bool,  # noqa: FBT001  -- it is drawn
) -> None:
    """Where nothing may be sent in a burst; paused, the last is left out as well."""
    schedule = scheduled(times)
    schedule.paused = paused
    due = [each for each in itertools.islice(times, 1000) if each <= moment]
    latest = schedule.take_latest(moment)
    assert latest == (None if paused or not due else due[-1])
    assert schedule.missed == max(0, len(due) - (not paused))


@pytest.mark.parametrize("seed", [None, 4711])
def test_stopping_and_closing_leave_what_was_due(seed: int | None) -> None:
    """What was due when it was stopped may still be sent; closed, it is unsent for ever."""
    times = DueTimes(RisingRate(50, 2), seed)
    due = [*itertools.islice(times, 1000)]
    schedule = scheduled(times, seconds=10)
    by_then = sum(each < 3.001 for each in due)
    assert schedule.unsent(3.001) == by_then
    assert len(take_all(schedule, 1.001)) == sum(each < 1.001 for each in due)
    schedule.stop(3.001)
    schedule.close()
    assert take_all(schedule, 1000) == []
    assert schedule.unsent(1000) == by_then - sum(each < 1.001 for each in due)
