"""Sharing: the parts of a plan add up to the plan."""

from __future__ import annotations

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._load.plan import LoadPlan
from techo._load.sharing import divide, head_start
from techo._probing.arrivals import Arrivals, DueTimes, RisingRate

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


@given(SHARES, st.integers(1, 10**6) | st.floats(0.001, 10**6))
def test_rates_add_up(shares: int, rate: float) -> None:
    """A whole rate is divided into whole ones, and any other to within what a float is."""
    rates = [each.rate or 0 for each in divide(LoadPlan(connections=shares, rate=rate), shares)]
    assert min(rates) > 0
    if rate == int(rate) and rate >= shares:
        assert sum(rates) == rate
        assert all(each == int(each) for each in rates)
    else:
        assert sum(rates) == pytest.approx(rate, rel=1e-12)


@given(SHARES, st.floats(0.001, 10**6), st.integers(1, 10))
def test_together_they_are_due_one_by_one(shares: int, rate: float, rounds: int) -> None:
    """Shares of one rate, each begun a little later, have no two trips due at one moment."""
    plan = LoadPlan(connections=shares, rate=rate)
    gap = 1 / rate
    begins = [head_start(plan, number) for number in range(shares)]
    due = sorted(begin + turn * shares * gap for begin in begins for turn in range(rounds))
    assert due == pytest.approx([number * gap for number in range(shares * rounds)])
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
        (LoadPlan(trips=2), "trips 2 cannot be divided among 4: give --trips 4 or more"),
    ],
    ids=["connections", "trips"],
)
def test_a_share_of_nothing_is_refused(plan: LoadPlan, words: str) -> None:
    """There is at least one connection and one trip for each, or the text has the remedy."""
    with pytest.raises(ValueError, match=words):
        divide(plan, 4)


def test_one_share_probes_for_all() -> None:
    """At the rate that was asked for: a probe is no load to be divided."""
    parts = divide(LoadPlan(connections=3, probe=10), 3)
    assert [each.probe for each in parts] == [10, None, None]
