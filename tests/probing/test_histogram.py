"""The histogram against sorted samples and against hdrhistogram."""

from __future__ import annotations

import json
import math

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from techo._probing.histogram import Histogram, fewest

DURATIONS = st.lists(
    st.one_of(
        st.integers(0, 300),
        st.integers(0, 2**40),
        st.builds(
            lambda bits, step: abs(2**bits + step), st.integers(0, 60), st.integers(-2, 2)
        ),
    ),
    min_size=1,
    max_size=300,
)
PERCENTS = st.sampled_from([1.0, 50.0, 90.0, 95.0, 99.0, 99.5])


@given(DURATIONS, PERCENTS)
def test_percentiles_are_those_of_the_sorted_samples(
    durations: list[int], percent: float
) -> None:
    """The nearest rank's duration, to within one per cent, if there are enough to tell."""
    found = Histogram.of(durations).percentile(percent)
    if len(durations) * (100 - percent) < 100 - 1e-6:
        assert found is None
        return
    exact = sorted(durations)[math.ceil(round(len(durations) * percent / 100, 6)) - 1]
    assert found is not None
    assert abs(found - exact) <= exact / 100


@given(DURATIONS)
def test_the_rest_is_exact(durations: list[int]) -> None:
    """Count, sum, mean, least and most."""
    histogram = Histogram.of(durations)
    assert histogram.count == len(durations)
    assert histogram.sum == sum(durations)
    assert histogram.mean == round(sum(durations) / len(durations))
    assert (histogram.min, histogram.max) == (min(durations), max(durations))


@settings(max_examples=30)  # a hundred durations and more in each
@given(st.lists(st.integers(1, 10**11), min_size=100, max_size=400), PERCENTS)
def test_hdrhistogram_agrees(durations: list[int], percent: float) -> None:
    """With three significant digits, to within the errors of both, about the same rank."""
    other = HdrHistogram(1, 10**11, 3)
    for duration in durations:
        other.record_value(duration)
    found = Histogram.of(durations).percentile(percent)
    if found is not None:
        rank = math.ceil(round(len(durations) * percent / 100, 6))  # theirs is rounded
        theirs = other.get_value_at_percentile(100 * rank / len(durations))
        assert abs(found - theirs) <= theirs / 100 + 1


@given(DURATIONS, DURATIONS)
def test_adding_is_as_recording_everything_in_one(one: list[int], other: list[int]) -> None:
    """Nothing is averaged, whichever is added to which, an empty one too."""
    total = Histogram()
    for each in (Histogram.of(other), Histogram(), Histogram.of(one)):
        total.add(each)
    assert total == Histogram.of(one + other)


@given(st.lists(st.integers(0, 2**50)))
def test_it_goes_through_json_unharmed(durations: list[int]) -> None:
    """As text, empty too."""
    histogram = Histogram.of(durations)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


@given(DURATIONS)
def test_the_curve_rises_to_the_most(durations: list[int]) -> None:
    """Shares rise to one, durations to the longest."""
    histogram = Histogram.of(durations)
    shares, values = zip(*histogram.curve(), strict=True)
    assert list(shares) == sorted(set(shares))
    assert list(values) == sorted(values)
    assert shares[-1] == 1
    assert abs(values[-1] - max(durations)) <= max(durations) / 100


@pytest.mark.parametrize(
    ("percent", "count"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000), (99.99, 10000)]
)
def test_a_percentile_needs_enough_samples(percent: float, count: int) -> None:
    """One of them must lie above."""
    assert fewest(percent) == count
    assert Histogram.of([1] * (count - 1)).percentile(percent) is None
    assert Histogram.of([1] * count).percentile(percent) == 1


@given(st.lists(st.integers(0, 2**40), min_size=20, max_size=200), st.integers(0, 9))
def test_the_mean_of_the_fastest_is_that_of_the_sorted(durations: list[int], lost: int) -> None:
    """What was lost is slower than any, and makes it infinite if too few came back."""
    wanted = math.ceil((len(durations) + lost) * 95 / 100)
    found = Histogram.of(durations).mean_of_fastest(95, lost=lost)
    if wanted > len(durations):
        assert found == math.inf
    else:
        assert found == pytest.approx(sum(sorted(durations)[:wanted]) / wanted, rel=0.008)
    assert Histogram.of(durations[:19]).mean_of_fastest(95) is None


def test_figures_have_names() -> None:
    """As JSON has them; what can't be told is none, and of nothing nothing can."""
    assert Histogram.of([1, 3]).figures(50, 99.9) == {
        "count": 2,
        "min": 1,
        "mean": 2,
        "p50": 1,
        "p99_9": None,
        "max": 3,
    }
    nothing = Histogram().figures(50)
    assert nothing.pop("count") == 0
    assert set(nothing.values()) == {None}


@pytest.mark.parametrize("percent", [0, 100, -1, 101])
def test_no_percentile_outside_of_a_hundred(percent: float) -> None:
    """Least and most have names of their own."""
    with pytest.raises(ValueError, match=f"percent {percent} is not between 0 and 100"):
        Histogram.of([1]).percentile(percent)


def test_a_negative_duration_is_refused() -> None:
    """No clock of ours goes back."""
    with pytest.raises(ValueError, match="duration -1 is negative"):
        Histogram.of([5, -1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bits": 7}, "bits 6"),
        ({"buckets": None}, "no counts: 'None'"),
        ({"buckets": {"-1": 1}}, "no counts"),
        ({"buckets": {"3": True}}, "True where a whole number"),
        ({"total_ns": 10**40}, "where a whole number"),
        ({"buckets": {"3": -1}}, "-1 where a whole number"),
        ({"buckets": {"x": 1}}, "no counts"),
        ({"max_ns": 2**40}, "not those of its buckets"),
        ({"total_ns": "5"}, "'5' where"),
    ],
)
def test_what_is_no_histogram_is_refused(change: dict[str, object], words: str) -> None:
    """With what is wrong about it."""
    data = Histogram.of([3, 4]).to_json() | change
    with pytest.raises(ValueError, match=words):
        Histogram.from_json(data)
    with pytest.raises(ValueError, match="bits"):
        Histogram.from_json("nothing")


@given(st.lists(st.integers(0, 127), max_size=150), st.integers(0, 150))
def test_what_was_lost_is_slower_than_anything(durations: list[int], lost: int) -> None:
    """Percentiles are those of all, the lost among them; below 128 ns they are exact."""
    histogram = Histogram.of(durations)
    everything = [*sorted(map(float, durations)), *[math.inf] * lost]
    for percent in (50, 90, 99):
        fewest = math.ceil(round(100 / (100 - percent), 6))
        nearest = None
        if len(everything) >= fewest:
            nearest = everything[math.ceil(round(len(everything) * percent / 100, 6)) - 1]
        assert histogram.percentile(percent, lost=lost) == nearest
    shares = [share for share, _ in histogram.curve(lost=lost)]
    assert not shares or shares[-1] == pytest.approx(len(durations) / len(everything))


@given(DURATIONS, DURATIONS, st.lists(st.integers(1, 10**10), min_size=1, max_size=5))
def test_what_does_not_exceed_a_bound_is_counted(
    durations: list[int], more: list[int], bounds: list[int]
) -> None:
    """To within one per cent of the bound; no number falls when more are recorded."""
    bounds.sort()
    histogram = Histogram.of(durations)
    found = histogram.up_to(bounds)
    for bound, count in zip(bounds, found, strict=True):
        surely = sum(each <= bound * 0.99 for each in durations)
        assert surely <= count <= sum(each <= bound * 1.01 for each in durations)
        assert Histogram.of([bound]).up_to([bound]) == [1]
    histogram.add(Histogram.of(more))
    assert all(a <= b for a, b in zip(found, histogram.up_to(bounds), strict=True))
