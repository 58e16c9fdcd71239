"""Separation: what two groups show that do not overlap, where noise cannot be drawn.

If a server is dead in all runs after and in none before, no number varies, or hardly one. The
bootstrap knows nothing then, and the order of the numbers is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import attrs


@attrs.frozen
class Separation:
    """Two groups that do not overlap: all numbers of one are above all of the other."""

    value: float
    """How much the mean of one is above that of the other; infinite if one group is."""
    p: float
    """How often chance alone makes at least as much of it."""
    low: float
    """The least that a number after is above one before, if p is low enough."""
    high: float
    """The most."""

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float]) -> Self | None:
        """Return how two groups are separated; None if they overlap, or are equal."""
        low, high = min(after) - max(before), max(after) - min(before)
        if not (low > 0 or high < 0):  # of infinities on both sides, it is no number
            return None
        return cls(
            _mean(after) - _mean(before),
            _chance(len(before), len(after), alike=low == high),
            low,
            high,
        )

    def interval(self, error_rate: float) -> tuple[float, float]:
        """Return the bounds that miss the true difference so often; infinite if p is above.

        Outside of them, the groups moved together would still be separated.
        """
        return (self.low, self.high) if self.p <= error_rate else (-math.inf, math.inf)


def _mean(numbers: Sequence[float]) -> float:
    # Rounded, the mean of equal numbers may not be what they are.
    return numbers[0] if min(numbers) == max(numbers) else sum(numbers) / len(numbers)


def _chance(before: int, after: int, *, alike: bool) -> float:
    count = before + after
    if not alike:
        # Of all ways to deal the numbers to the sides, two are as far apart.
        return 2 / math.comb(count, before)
    # Two values are each on a side of their own most often if each is as frequent as its side
    # is large.
    return float(2 * (before / count) ** before * (after / count) ** after)
