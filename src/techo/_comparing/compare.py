"""Compare: which figures of a load have changed between some runs and some others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from techo._comparing.bootstrap import Bootstrap, Difference, holm
from techo._comparing.comparison import FEWEST, ComparedFigure, Comparison, Verdict
from techo._comparing.runs import check_comparable, notes_on
from techo._comparing.separation import Separation
from techo._load.report import LoadReport
from techo._probing.histogram import PERCENTS, fewest

_WHOLE: Final = 100
"""Per cent."""

_ENDLESS: Final = 500.0
"""Half of an interval that is as good as none: of logarithms, or percentage points."""


@attrs.frozen
class _Figure:
    """How a figure is taken from a run, and how it changes."""

    name: str
    unit: str
    of: Callable[[LoadReport], float | None]
    missing: str
    """Why a run may not have it."""
    by_ratio: bool = True
    """Whether it changes by a share of what it was, so that its logarithm is compared: noise of
    times multiplies them, and skews them less there."""
    more_is_better: bool = False


def _percentile(percent: float) -> _Figure:
    return _Figure(
        f"p{percent:g}",
        "ns",
        lambda run: run.percentile(percent),
        f"had fewer than the {fewest(percent):,} trips that it needs",
    )


_FIGURES: Final = (
    *map(_percentile, PERCENTS),
    _Figure("mean", "ns", lambda run: run.latency.mean, "had nothing back"),
    _Figure("loss", "percent", lambda run: run.loss, "had no trips", by_ratio=False),
    _Figure(
        "rate",
        "per_second",
        lambda run: run.trips_per_second,
        "had no time",
        more_is_better=True,
    ),
)
"""What is compared. The least and the longest time are not: each is that of a single trip, and
depends on how many others there were."""


def compare(
    before: Iterable[LoadReport], after: Iterable[LoadReport], *, seed: int = 0
) -> Comparison:
    """Return what has changed between runs of a load `before` something and `after` it.

    Every run counts once, whatever its length. For each figure a bootstrap over the runs gives
    the interval of its change, and Holm's correction makes all of them together show a change
    where there is none in at most 5 % of comparisons. It takes five runs on each side to know
    anything. The same runs and `seed` give the same answer, in whichever order they are.

    Raises:
        ValueError: a side has no runs, or they cannot be compared; the text says why.
    """
    sides = [*before], [*after]
    check_comparable(*sides)
    counts = [len(runs) for runs in sides]
    bootstrap = Bootstrap.of(*counts, seed=seed) if min(counts) >= FEWEST else None
    found = [_observed(figure, *sides, bootstrap) for figure in _FIGURES]
    # An unknown change counts in the correction: it may be chance that it is unknown.
    chances = [1.0 if each.difference is None else each.difference.p for each in found]
    corrected = holm(chances)
    figures = [_judged(*each) for each in zip(found, corrected, strict=True)]
    return Comparison(
        before=sides[0],
        after=sides[1],
        figures={each.name: each for each in figures},
        notes=[*notes_on(*sides)],
    )


@attrs.frozen
class _Observed:
    """One figure of all runs, before chance is judged."""

    figure: _Figure
    before: float | None
    after: float | None
    reason: str = ""
    """Why its change is unknown; empty if it is not."""
    difference: Difference | Separation | None = None
    """None if all runs are alike, too, which is no change."""


def _observed(
    figure: _Figure,
    before: Sequence[LoadReport],
    after: Sequence[LoadReport],
    bootstrap: Bootstrap | None,
) -> _Observed:
    values = [[figure.of(run) for run in side] for side in (before, after)]
    means = [_mean(figure, each) for each in values]
    observed = _Observed(figure, means[0], means[1])
    if bootstrap is None:
        return attrs.evolve(observed, reason=f"it takes {FEWEST} runs on each side")
    reason = _obstacle(figure, *values)
    known = [[_scaled(figure, each) for each in side if each is not None] for side in values]
    if not reason:
        return attrs.evolve(observed, difference=bootstrap.difference(*known))
    if [*map(len, known)] == [len(before), len(after)]:
        # What is 0 or lost has no mean, and may still be apart from all of the other side.
        found = Separation.of(*known)
        if found is not None:
            return attrs.evolve(observed, difference=found)
    return attrs.evolve(observed, reason=reason)


def _mean(figure: _Figure, values: Sequence[float | None]) -> float | None:
    """Return the mean over runs; infinite or None if the figure of one of them is."""
    known = [each for each in values if each is not None]
    if len(known) < len(values):
        return None
    if not figure.by_ratio or 0 in known or math.inf in known:
        return math.fsum(known) / len(known)
    return math.exp(math.fsum(map(math.log, known)) / len(known))


def _obstacle(figure: _Figure, *sides: Sequence[float | None]) -> str:
    """Return why a change of the figure is unknown; empty if nothing is in the way."""
    for values, side in zip(sides, ("before", "after"), strict=True):
        for why, count in (
            (figure.missing, sum(each is None for each in values)),
            ("lost so many trips that it is among them", values.count(math.inf)),
            ("had 0", values.count(0) if figure.by_ratio else 0),
        ):
            if count:
                return f"{count} of {len(values)} runs {side} {why}"
    return ""


def _scaled(figure: _Figure, value: float) -> float:
    if not figure.by_ratio:
        return value
    return math.log(value) if value else -math.inf


def _judged(observed: _Observed, corrected: tuple[float, float]) -> ComparedFigure:
    """Return what is known of a figure's change, by its adjusted p and its error rate."""
    figure, found = observed.figure, observed.difference
    compared = ComparedFigure(
        name=figure.name,
        unit=figure.unit,
        before=observed.before,
        after=observed.after,
        reason=observed.reason,
    )
    if observed.reason:
        return compared
    p, error_rate = corrected
    compared = attrs.evolve(
        compared, confidence=_WHOLE * (1 - error_rate), p=p, verdict=Verdict.NOT_SHOWN
    )
    if found is None:
        return attrs.evolve(compared, change=0.0)
    low, high = found.interval(error_rate)
    bounded = high - low < 2 * _ENDLESS  # of infinities on one side, it is no number
    if low > 0 or high < 0:
        better = (found.value > 0) == figure.more_is_better
        compared = attrs.evolve(compared, verdict=Verdict.BETTER if better else Verdict.WORSE)
    return attrs.evolve(
        compared,
        change=_change(figure, found.value),
        low=_change(figure, low) if bounded else None,
        high=_change(figure, high) if bounded else None,
    )


def _change(figure: _Figure, value: float) -> float:
    if not figure.by_ratio:
        return value
    return _WHOLE * math.expm1(value) if value < _ENDLESS else math.inf
