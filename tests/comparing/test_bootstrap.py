"""The bootstrap: it agrees with scipy's, holds its level, and Holm's correction is closed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._comparing.bootstrap import ERROR_RATE, Bootstrap, Difference, holm
from techo._comparing.separation import Separation

BEFORE = [10.1, 9.7, 10.4, 10.0, 9.9, 12.5, 10.2]
AFTER = [11.9, 11.2, 12.4, 12.0, 11.1, 11.6, 12.2]


def test_it_agrees_with_scipy() -> None:
    """Difference and error are those of Welch's test, margin and p of its bootstrap."""
    import numpy as np  # noqa: PLC0415  -- it takes a second, which no other test should
    from scipy import stats  # noqa: PLC0415  -- likewise

    def studentized(before: Any, after: Any, axis: int) -> Any:
        variances = [each.var(axis, ddof=1) / each.shape[axis] for each in (before, after)]
        with np.errstate(divide="ignore"):
            return np.abs(after.mean(axis) - before.mean(axis)) / np.sqrt(sum(variances))

    found = Bootstrap.of(len(BEFORE), len(AFTER), seed=0).difference(BEFORE, AFTER)
    assert isinstance(found, Difference)
    welch = stats.ttest_ind(AFTER, BEFORE, equal_var=False)
    assert found.value / found.error == pytest.approx(welch.statistic)
    centred = [np.array(each) - np.mean(each) for each in (BEFORE, AFTER)]
    theirs = stats.bootstrap(
        centred, studentized, n_resamples=9_999, method="percentile", rng=1
    ).bootstrap_distribution
    for error_rate in (0.05, 0.01):
        margin = np.quantile(theirs, 1 - error_rate) * found.error
        assert found.margin(error_rate) == pytest.approx(margin, rel=0.1)
    assert found.p == pytest.approx(np.mean(theirs >= abs(welch.statistic)), rel=0.2)


def test_it_is_the_same_again_in_any_order() -> None:
    """A seed has one answer, whatever the order of the numbers; another has nearly the same."""
    first, again, other = (
        Bootstrap.of(7, 7, seed=seed, resamples=1999).difference(before, AFTER)
        for seed, before in ((1, BEFORE), (1, BEFORE[::-1]), (2, BEFORE))
    )
    assert isinstance(first, Difference)
    assert isinstance(other, Difference)
    assert first == again
    assert first != other
    assert first.margin(0.05) == pytest.approx(other.margin(0.05), rel=0.2)


FEW = Bootstrap.of(5, 5, seed=0, resamples=99)


@given(st.integers(0, 10**6), st.floats(0.001, 0.2))
def test_the_interval_and_p_say_the_same(seed: int, error_rate: float) -> None:
    """The interval for an error rate has no 0 in it exactly if p is not above that."""
    chance = random.Random(seed)  # noqa: S311  -- the same again for a seed
    before, after = ([chance.gauss(mean, 1) for _ in range(5)] for mean in (0, 1))
    found = FEW.difference(before, after)
    assert isinstance(found, Difference)
    assert (abs(found.value) > found.margin(error_rate)) == (found.p <= error_rate)


def test_equal_numbers_are_no_change_or_apart() -> None:
    """What is equal throughout is nothing; two values, one on each side, are a change."""
    bootstrap = Bootstrap.of(5, 5, seed=0, resamples=99)
    assert bootstrap.difference([0.1] * 5, [0.1] * 5) is None
    found = bootstrap.difference([1.0] * 5, [3.0] * 5)
    assert found == Separation(value=2.0, p=2 * 0.5**10, low=2.0, high=2.0)
    assert found.interval(found.p) == (2.0, 2.0)
    assert found.interval(found.p / 2) == (-math.inf, math.inf)


def test_numbers_that_are_nearly_equal_are_judged_by_their_order() -> None:
    """Where drawing cannot show anything, groups that do not overlap are apart all the same."""
    bootstrap = Bootstrap.of(6, 6, seed=0)
    found = bootstrap.difference([0.0] * 6, [9.0] * 5 + [3.0])
    assert found == Separation(value=8.0, p=2 / math.comb(12, 6), low=3.0, high=9.0)
    rare = bootstrap.difference([0.0] * 6, [0.0] * 5 + [1.0])
    assert isinstance(rare, Difference)
    assert rare.p > 0.3
    assert rare.margin(ERROR_RATE) == math.inf


def test_noise_that_can_be_drawn_is_drawn() -> None:
    """Where groups are apart and vary, the smaller interval of the bootstrap counts."""
    bootstrap = Bootstrap.of(10, 10, seed=0, resamples=999)
    varied = [1.0, 1.1, 0.9, 1.2, 0.8, 1.3, 0.7, 1.05, 0.95, 1.15]
    found = bootstrap.difference([0.0] * 10, varied)
    assert isinstance(found, Difference)
    assert found.p == 1 / 1000
    assert found.margin(ERROR_RATE) < 0.2


@pytest.mark.parametrize(
    ("before", "after", "value"),
    [([1.0, 2.0], [math.inf] * 2, math.inf), ([-math.inf] * 2, [1.0, 2.0], math.inf)],
)
def test_what_is_infinite_can_be_apart(
    before: list[float], after: list[float], value: float
) -> None:
    """Infinite or not is one of two values; where both sides have some, nothing is known."""
    found = Separation.of(before, after)
    assert found is not None
    assert (found.value, found.p) == (value, 2 * 0.5**4)
    assert Separation.of([1.0, math.inf], [math.inf] * 2) is None


@pytest.mark.parametrize(("before", "after"), [(5, 5), (6, 6), (5, 7)])
@pytest.mark.parametrize("error_rate", [ERROR_RATE / 8, ERROR_RATE])
def test_two_values_by_chance_are_seldom_a_change(
    before: int, after: int, error_rate: float
) -> None:
    """However rare one of two values is, the level is kept, but for the draws' own noise."""
    bootstrap = Bootstrap.of(before, after, seed=0, resamples=199)
    shown = []
    for first, second in itertools.product(range(before + 1), range(after + 1)):
        sides = [0.0] * (before - first) + [1.0] * first, [0.0] * (after - second)
        found = bootstrap.difference(sides[0], sides[1] + [1.0] * second)
        if found is not None and found.p <= error_rate:
            shown.append((first, second))
    assert {(0, after), (before, 0)} <= {*shown}
    for chance in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        wrong = math.fsum(
            math.comb(before, first)
            * math.comb(after, second)
            * chance ** (first + second)
            * (1 - chance) ** (before + after - first - second)
            for first, second in shown
        )
        assert wrong <= 1.2 * error_rate


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closure_of_bonferroni(chances: list[float]) -> None:
    """An adjusted p is the worst that Bonferroni makes of any set with the figure in it."""
    everything = range(len(chances))
    for at, (adjusted, error_rate) in enumerate(holm(chances)):
        sets = (
            some
            for count in range(1, len(chances) + 1)
            for some in itertools.combinations(everything, count)
            if at in some
        )
        worst = max(min(1, len(some) * min(chances[each] for each in some)) for some in sets)
        assert adjusted == pytest.approx(worst)
        assert ERROR_RATE / len(chances) <= error_rate <= ERROR_RATE
        if abs(adjusted - ERROR_RATE) > 1e-9:
            assert (chances[at] <= error_rate) == (adjusted <= ERROR_RATE)


NOISE: dict[str, Callable[[random.Random], float]] = {
    "even": lambda chance: chance.gauss(0, 0.03),
    "skewed": lambda chance: 0.03 * chance.expovariate(1),
    "rare slow runs": lambda chance: chance.gauss(0, 0.03) + 0.3 * (chance.random() < 0.1),
}


def test_a_tenth_more_is_found() -> None:
    """With ten runs a side and 3 % of noise, it is in 99 of 100 simulations, by Holm too."""
    chance = random.Random(5)  # noqa: S311  -- the same again in every test
    bootstrap = Bootstrap.of(10, 10, seed=0, resamples=999)
    shown = 0
    for _ in range(100):
        before, after = (
            [chance.gauss(mean, 0.03) for _ in range(10)] for mean in (0, math.log(1.1))
        )
        found = bootstrap.difference(before, after)
        assert found is not None
        shown += found.p <= ERROR_RATE / 8  # as if none of the other seven had changed
    assert shown >= 99


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("counts", [(5, 5), (10, 10), (5, 20)])
def test_chance_seldom_looks_like_a_change(counts: tuple[int, int], noise: str) -> None:
    """Of sets of figures without a change at most 5 % show one, whatever the noise is."""
    chance = random.Random(4)  # noqa: S311  -- the same again in every test
    bootstrap = Bootstrap.of(*counts, seed=0, resamples=399)
    alarms, sets = 0, 100
    for _ in range(sets):
        chances = []
        for _ in range(4):
            before, after = ([NOISE[noise](chance) for _ in range(count)] for count in counts)
            found = bootstrap.difference(before, after)
            assert found is not None
            chances.append(found.p)
        alarms += min(adjusted for adjusted, _ in holm(chances)) <= ERROR_RATE
    assert alarms <= 9  # of 100 at 5 %, more are there in less than 3 of 100 tries
