"""The search: which rate to try next, and how long. No I/O and no clock.

It doubles the rate until one fails, halves the gap until it is small enough, and then tries
the winner again for longer. A winner that fails then is an upper bound. No rate that held for
short can be believed then, so the search goes on below with long trials only.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

TRIES: Final = 2
"""Trials in which a rate has to fail: a pause of some machine is no lack of capacity.
That a rate holds by chance is what the long trial at the end is for."""

LOWEST: Final = 1 / 64
"""Share of the first rate below which nothing is tried."""

_HALF: Final = 0.5


@attrs.frozen
class Trial:
    """What to try next."""

    rate: float
    """Trips per second."""
    confirming: bool
    """Whether it takes long, so that what holds can be believed."""


@attrs.define(eq=False)
class Search:
    """The search for the highest rate that holds: `next` asks, `take` answers."""

    start: float
    """The first rate."""
    highest: float
    """No rate above this is tried; infinity for any."""
    precision: float
    """The gap between the bounds that is small enough, as a share of the lower one."""
    most: int
    """How many trials there are in all, at the most."""
    lower: float | None = attrs.field(default=None, init=False)
    """The highest rate that held; None if none has."""
    upper: float | None = attrs.field(default=None, init=False)
    """The lowest rate that failed; None if none has."""
    confirmed: bool = attrs.field(default=False, init=False)
    """Whether `lower` held in a long trial."""
    over: bool = attrs.field(default=False, init=False)
    """Whether nothing is left to be tried."""
    _rate: float = attrs.field(init=False)
    _confirming: bool = attrs.field(default=False, init=False)
    _stride: float = attrs.field(default=_HALF, init=False)
    """By which share of it the next rate is below one that failed, while none has held."""
    _failures: int = attrs.field(default=0, init=False)
    """Of trials at this rate."""
    _trials: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._rate = self.start

    def next(self) -> Trial | None:
        """Return what to try; None when the search is over, or all trials were made."""
        if self.over or self._trials >= self.most:
            return None
        return Trial(self._rate, self._confirming)

    def take(self, *, held: bool) -> None:
        """Take what came of the trial that `next` returned."""
        self._trials += 1
        if held:
            self.lower, self.confirmed = self._rate, self._confirming
        else:
            self._failures += 1
            if self._failures < TRIES:
                return
            self._fall()
        self._failures = 0
        self._choose()

    def _fall(self) -> None:
        """Note that the rate has failed."""
        self.upper = self._rate
        if self.lower is not None and self.upper <= self.lower:
            # It had held for short: so none that did can be believed.
            self.lower, self._stride = None, self.precision

    def _choose(self) -> None:
        """Choose the next rate."""
        lower, upper = self.lower, self.upper
        if lower is None:
            self._step_down()
        elif upper is None and lower < self.highest:
            self._rate = min(2 * lower, self.highest)
        elif upper is not None and upper > lower * (1 + self.precision):
            self._rate = _between(lower, upper)
        elif not self.confirmed:
            self._rate, self._confirming = lower, True
        else:
            self.over = True

    def _step_down(self) -> None:
        """Go below the rate that failed, further each time."""
        upper, lowest = self._rate, self.start * LOWEST
        if upper <= lowest:
            self.over = True
            return
        below = upper * (1 - self._stride)
        self._rate = max(_short(below, upper - below), lowest)
        self._stride = min(2 * self._stride, _HALF)


def _between(lower: float, upper: float) -> float:
    return _short((lower + upper) / 2, upper - lower)


def _short(rate: float, gap: float) -> float:
    """Return a rate without digits that make no difference within a gap."""
    return round(rate, 1 - math.floor(math.log10(gap)))
