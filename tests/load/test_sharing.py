"""Sharing: the parts of a plan add up to the plan."""

from __future__ import annotations

import itertools
import math

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from techo._load.plan import LoadPlan
from techo._load.sharing import divide, head_start
from techo._probing.arrivals import Arrivals, DueTimes, RisingRate
from techo._probing.schedule import Schedule

SHARES = st.integers(1, 40)


@given(SHARES, st.integers(0, 1000), st.none() | st.integers(0, 10**6))
def test_connections_and_trips_add_up(shares: int, more: int, trips: int | None) -> None:
    """Nothing is lost in the division, and no share has two more than another."""
    plan = LoadPlan(connections=shares + more, trips=None if trips is None else shares + trips)
    parts = divide(plan, shares)
    assert len(parts) == shares
    for name in ("connections", "trips"):
        if (total := getattr(plan, name)) is not None:
            each = [getattr(part, name) for part in parts]
            assert sum(each) == total
            assert min(each) >= 1
            assert max(each) - min(each) <= 1
            assert each == sorted(each, reverse=True)


@given(SHARES, st.integers(1, 10**6) | st.floats(0.001, 10**6), st.integers(1, 10))
def test_rates_add_up(shares: int, rate: float, more: int) -> None:
    """All have the same, and their sum is the whole, but for what a float is."""
    plan = LoadPlan(connections=shares, rate=rate, seconds=(shares + more) / rate)
    rates = [each.rate or 0 for each in divide(plan, shares)]
    assert len(set(rates)) == 1
    assert sum(rates) == pytest.approx(rate, rel=1e-12)


def _due(plan: LoadPlan, begin: float) -> list[tuple[float, bool]]:
    """Return when the trips of a plan are due, and whether each is counted."""
    seconds = math.inf if plan.seconds is None else plan.seconds
    schedule = Schedule(begin, plan.warm_up, seconds, plan.trips, plan.rate)
    found = list[tuple[float, bool]]()
    while (due := schedule.take(math.inf)) is not None:
        found.append((due, schedule.counts(due)))
    return found


@given(
    st.integers(1, 9),
    st.integers(1, 300) | st.floats(1, 300),
    st.sampled_from([None, 0.75, 2.0]),
    st.sampled_from([0.0, 0.01, 0.5]),
)
@example(3, 10.0, 1.0, 0.0)
def test_together_they_are_due_as_one_would_have_them(
    shares: int, rate: float, seconds: float | None, warm_up: float
) -> None:
    """At the same moments, as many, and as many in the warm-up, also where it won't divide."""
    assume(not warm_up if seconds is None else rate * (seconds + warm_up) > shares)
    trips = 31 if seconds is None else None
    plan = LoadPlan(
        connections=shares, rate=rate, seconds=seconds, trips=trips, warm_up=warm_up
    )
    whole = _due(plan, 0.0)
    parts = divide(plan, shares)
    due = sorted(
        each for n, part in enumerate(parts) for each in _due(part, head_start(plan, n))
    )
    # A trip of the very end may be due or not: there are two ways to that moment.
    assert abs(len(due) - len(whole)) <= (not math.isclose(rate, int(rate)))
    both = min(len(due), len(whole))
    assert [each for each, _ in due[:both]] == pytest.approx([each for each, _ in whole[:both]])
    assert [counted for _, counted in due[:both]] == [counted for _, counted in whole[:both]]
    assert head_start(attrs.evolve(plan, rate=None), shares - 1) == 0


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_together_they_rise_as_one(shares: int) -> None:
    """The trips of shares of a ramp are due when those of the whole are."""
    plan = LoadPlan(connections=shares, rate=84.0, ramp=2.0)
    whole = DueTimes(RisingRate(84.0, 2.0))
    parts = [
        DueTimes(RisingRate(each.rate or 0, each.ramp or 0), first=each.first)
        for each in divide(plan, shares)
    ]
    due = sorted(moment for each in parts for moment in itertools.islice(each, 420 // shares))
    assert due == pytest.approx([*itertools.islice(whole, 420)])
    assert {head_start(plan, number) for number in range(shares)} == {0}


def test_what_is_not_divided_is_the_same_for_all() -> None:
    """How long, how large and how many in flight hold on every connection."""
    plan = LoadPlan(seconds=3.0, size=7, pipeline=4, warm_up=1.0, timeout=2.0)
    for part in divide(plan, 3):
        assert attrs.evolve(part, connections=10) == plan


def test_seeds_are_counted_on() -> None:
    """No two shares have their trips due at the same random moments."""
    plan = LoadPlan(rate=90.0, arrivals=Arrivals.POISSON, seed=5)
    assert [each.seed for each in divide(plan, 3)] == [5, 6, 7]
    assert {each.seed for each in divide(attrs.evolve(plan, seed=None), 3)} == {None}


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (
            LoadPlan(connections=3),
            "connections 3 cannot be divided among 4: give --connections",
        ),
        (LoadPlan(trips=9, probe=5.0), "the first would probe while others still load"),
        (LoadPlan(trips=2), "trips 2 cannot be divided among 4: give --trips 4 or more"),
    ],
    ids=["connections", "probe", "trips"],
)
def test_a_share_of_nothing_is_refused(plan: LoadPlan, words: str) -> None:
    """There is a connection and a trip for each, or the text has the remedy."""
    with pytest.raises(ValueError, match=words):
        divide(plan, 4)


@pytest.mark.parametrize("warm_up", [0.0, 0.25])
def test_each_share_has_a_trip(warm_up: float) -> None:
    """Also of a rate that has fewer within its time, as a search for the capacity may try."""
    plan = LoadPlan(rate=2.0, seconds=1.0, warm_up=warm_up)
    due = [_due(part, head_start(plan, n)) for n, part in enumerate(divide(plan, 4))]
    assert [len(each) for each in due] == [1, 1, 1, 1]


def test_one_share_probes_for_all() -> None:
    """At the rate that was asked for: a probe is no load to be divided."""
    parts = divide(LoadPlan(connections=3, probe=10), 3)
    assert [each.probe for each in parts] == [10, None, None]
