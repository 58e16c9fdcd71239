"""The search for a capacity against servers that are known, and against ones that waver."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._capacity.search import LOWEST, TRIES, Search, Trial

rates = st.floats(0.01, 1e6)
precisions = st.floats(0.001, 0.5)
ENOUGH = 1000
"""Trials that no search takes."""


def search(
    start: float = 100, highest: float = math.inf, precision: float = 0.02, most: int = ENOUGH
) -> Search:
    """A search, of which a test changes what it is about."""
    return Search(start=start, highest=highest, precision=precision, most=most)


def run(search: Search, holds: object) -> list[tuple[Trial, bool]]:
    """Answer a search until it is over; return what it asked, and the answers."""
    found = []
    assert callable(holds)
    while (trial := search.next()) is not None:
        answer = holds(trial)
        found.append((trial, answer))
        search.take(held=answer)
    return found


@given(capacity=rates, start=rates, precision=precisions)
def test_a_capacity_is_found_to_within_the_precision(
    capacity: float, start: float, precision: float
) -> None:
    """Of a server that never wavers, in few trials; what it holds was tried for long."""
    found = search(start, precision=precision)
    trials = run(found, lambda trial: trial.rate <= capacity)
    assert found.over
    if capacity < start * LOWEST:
        assert (found.lower, found.upper) == (None, start * LOWEST)
        return
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower <= capacity < found.upper <= found.lower * (1 + precision)
    assert found.confirmed
    assert (Trial(found.lower, confirming=True), True) in trials
    doublings = abs(math.log2(capacity / start)) + 2
    assert len(trials) <= TRIES * (doublings + math.log2(2 / precision) + 2) + 1


def test_the_way_is_up_by_doubling_then_between_then_for_long() -> None:
    """The trials of a search, one by one; each rate that fails does so twice."""
    trials = run(search(), lambda trial: trial.rate < 700)
    asked = [trial.rate for trial, _ in trials]
    assert asked[:9] == [100, 200, 400, 800, 800, 600, 700, 700, 650]
    assert asked[-1] == 688
    assert [trial.confirming for trial, _ in trials] == [False] * (len(trials) - 1) + [True]


@given(capacity=rates, highest=st.floats(100, 1e6))
def test_nothing_above_the_highest_rate_is_tried(capacity: float, highest: float) -> None:
    """What holds there is found to hold at least that."""
    found = search(highest=highest)
    trials = run(found, lambda trial: trial.rate <= capacity)
    assert all(trial.rate <= highest for trial, _ in trials)
    if capacity >= highest:
        assert (found.lower, found.upper, found.confirmed) == (highest, None, True)


@given(
    short=rates,
    share=st.floats(0.1, 1.0),
    precision=st.floats(0.005, 0.1),
)
def test_what_holds_only_for_short_is_not_believed(
    short: float, share: float, precision: float
) -> None:
    """If less holds for long, that is found, without going down in small steps."""
    long = short * share
    found = search(start=short / 3, precision=precision)
    trials = run(found, lambda trial: trial.rate <= (long if trial.confirming else short))
    assert found.over
    assert found.confirmed
    assert found.lower is not None
    assert found.upper is not None
    assert found.lower <= long < found.upper
    assert found.upper <= found.lower * (1 + precision)
    assert len(trials) <= 80


@given(seed=st.integers(), spread=st.floats(0.01, 1.0), most=st.integers(1, 60))
def test_a_server_that_wavers_leaves_the_bounds_in_order(
    seed: int, spread: float, most: int
) -> None:
    """Whatever it answers, the search ends, and what it says was shown by trials."""
    chance = random.Random(seed)  # noqa: S311  -- it guards nothing

    def holds(trial: Trial) -> bool:
        return trial.rate <= 1000 * math.exp(chance.gauss(0, spread))

    found = search(most=most)
    trials = run(found, holds)
    assert len(trials) <= most
    assert found.over or len(trials) == most
    if found.lower is not None:
        assert (Trial(found.lower, confirming=found.confirmed), True) in trials
    if found.upper is not None:
        failures = [t for t, held in trials if t.rate == found.upper and not held]
        assert len(failures) >= TRIES
    if found.lower is not None and found.upper is not None:
        assert found.lower < found.upper
    if found.over and found.lower is not None:
        assert found.confirmed


def test_a_single_failure_costs_nothing_but_another_trial() -> None:
    """A rate that failed once and then held has held."""
    once = set[float]()

    def holds(trial: Trial) -> bool:
        first = trial.rate not in once
        once.add(trial.rate)
        return trial.rate <= 300 and not first

    found = search()
    run(found, holds)
    assert found.lower is not None
    assert found.lower <= 300 < found.lower * 1.02


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_number_of_trials_has_a_limit(most: int) -> None:
    """It is over then, with what is known, but not done."""
    found = search(most=most)
    assert len(run(found, lambda trial: trial.rate < 150)) == most
    assert not found.over
    assert not found.confirmed
    assert found.lower == 100
