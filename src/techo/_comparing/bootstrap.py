"""The bootstrap: how sure the difference of two groups of numbers is, and of several at once.

Each number is a figure of one run. Runs are drawn again, and not trips: trips of one run have
the same noise in common, and many of them do not make it less.

The interval is studentized and symmetric. The plain one of percentiles is too narrow for 5 to
10 runs, and so is one that is cut at both ends separately, where noise is skewed.
"""

from __future__ import annotations

import bisect
import math
import operator
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self, TypeAlias

import attrs

from techo._comparing.separation import Separation

RESAMPLES: Final = 9_999
"""How often runs are drawn again. Of several figures the surest must be sure to less than one
in a hundred, which must still be many of these; one more is a round number."""

ERROR_RATE: Final = 0.05
"""How often a set of figures may show a change where there is none."""

_NOTHING: Final = 1e-12
"""A variance below this share of the whole is one of equal numbers, but for rounding."""


@attrs.frozen
class Difference:
    """How much the mean of one group is above that of another, and how sure that is."""

    value: float
    error: float
    """Its standard error; above 0."""
    _scores: Sequence[float]
    """What chance alone made of the difference, in standard errors, without signs; rising."""

    @property
    def p(self) -> float:
        """How often chance alone makes at least as much of it."""
        below = bisect.bisect_left(self._scores, abs(self.value) / self.error)
        return (1 + len(self._scores) - below) / (1 + len(self._scores))

    def margin(self, error_rate: float) -> float:
        """Return half of the interval that misses the true difference so often.

        It is infinite if too many of the numbers are equal, or too few were drawn. The interval
        has no 0 in it exactly if `p` is not above the error rate.
        """
        above = math.floor(error_rate * (1 + len(self._scores)) + _NOTHING) - 1
        return self._scores[-1 - above] * self.error if above >= 0 else math.inf

    def interval(self, error_rate: float) -> tuple[float, float]:
        """Return the bounds that miss the true difference so often."""
        margin = self.margin(error_rate)
        return self.value - margin, self.value + margin

    @property
    def blind(self) -> float:
        """The share of draws that say nothing; no difference has a lower `p`."""
        return 1 - bisect.bisect_left(self._scores, math.inf) / len(self._scores)


Drawing: TypeAlias = Callable[[Sequence[float]], tuple[float, ...]]
"""Draws from numbers, with replacement, as many as there are."""


@attrs.frozen
class Bootstrap:
    """Judges differences of two groups, always by the same drawings."""

    _own: Sequence[Sequence[Drawing]]
    """Draw for each group from its own noise."""
    _shared: Sequence[Sequence[Drawing]]
    """Draw for each group from the noise of both; empty for groups of one size."""

    @classmethod
    def of(cls, before: int, after: int, *, seed: int, resamples: int = RESAMPLES) -> Self:
        """Draw from groups of so many, at least two each."""
        chance = random.Random(seed)  # noqa: S311  -- the same again for the same seed

        def drawings(among: int, count: int) -> list[Drawing]:
            numbers = range(among)
            return [
                operator.itemgetter(*chance.choices(numbers, k=count)) for _ in range(resamples)
            ]

        counts = before, after
        own = [drawings(count, count) for count in counts]
        # Few numbers know too little of their noise, and beside many they alone decide.
        uneven = before != after
        return cls(own, [drawings(before + after, count) for count in counts] if uneven else [])

    def difference(
        self, before: Sequence[float], after: Sequence[float]
    ) -> Difference | Separation | None:
        """Return the difference of the means of two groups; their order is of no importance.

        So many numbers can be equal that drawing them cannot show any difference. Then it is
        their separation, if they do not overlap. None if all numbers of both groups are equal.
        """
        groups = sorted(before), sorted(after)
        separation = Separation.of(*groups)
        errors = sum(map(_variance_of_mean, groups))
        if not errors:
            return separation
        noises = [_noise_of(each) for each in groups]
        scores = sorted(map(_score, *map(_drawn, noises, self._own)))
        if self._shared:
            shared = noises[0] + noises[1]
            others = sorted(map(_score, *(_drawn(shared, each) for each in self._shared)))
            scores = [*map(max, scores, others)]  # whichever is the more doubtful
        found = Difference(_mean(groups[1]) - _mean(groups[0]), math.sqrt(errors), scores)
        if separation is not None and found.blind > separation.p:
            return separation
        return found


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _variance_of_mean(numbers: Sequence[float]) -> float:
    if numbers[0] == numbers[-1]:
        return 0.0
    count, mean = len(numbers), _mean(numbers)
    return math.fsum((each - mean) ** 2 for each in numbers) / (count - 1) / count


def _noise_of(numbers: Sequence[float]) -> list[float]:
    """Return how far each is from the mean, made larger by what few are too near to theirs."""
    count, mean = len(numbers), _mean(numbers)
    if numbers[0] == numbers[-1]:
        return [0.0] * count
    return [(each - mean) * math.sqrt(count / (count - 1)) for each in numbers]


def _drawn(
    noise: Sequence[float], drawings: Sequence[Drawing]
) -> Iterator[tuple[float, float]]:
    """Yield for each drawing how far its mean is off, and the variance of that mean."""
    least = _NOTHING * math.fsum(each * each for each in noise) / len(noise)
    for draw in drawings:
        some = draw(noise)
        count = len(some)
        off = sum(some) / count
        variance = sum(map(operator.mul, some, some)) / count - off * off
        yield off, variance / (count - 1) if variance > least else 0.0


def _score(before: tuple[float, float], after: tuple[float, float]) -> float:
    variance = before[1] + after[1]
    # Numbers that are all equal say nothing of their noise: anything could come out.
    return abs(after[0] - before[0]) / math.sqrt(variance) if variance else math.inf


def holm(chances: Sequence[float]) -> list[tuple[float, float]]:
    """Return for each p of a set its adjusted p, and the error rate that it had to stay below.

    Holm's way: the least must stay below the rate that is allowed, divided by their number, the
    next below that divided by one less, until one does not; all that follow have its rate. So
    the interval for that rate has no 0 in it exactly if the adjusted p is not above
    `ERROR_RATE`.
    """
    found = [(1.0, ERROR_RATE)] * len(chances)
    adjusted, error_rate, failed = 0.0, ERROR_RATE, False
    for rank, at in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        left = len(chances) - rank
        adjusted = max(adjusted, min(1.0, chances[at] * left))
        if not failed:
            error_rate = ERROR_RATE / left
            failed = chances[at] > error_rate
        found[at] = adjusted, error_rate
    return found
