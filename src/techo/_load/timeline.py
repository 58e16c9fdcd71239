"""The timeline: a load in intervals, few enough to be drawn, long enough to say something."""

from __future__ import annotations

from typing import Final

import attrs

from techo._load.interval import Interval, until_given_up
from techo._load.report import LoadReport

_SHORTEST: Final = 0.2
"""Seconds: there are no reports in shorter intervals."""

_MOST: Final = 100
_MOST_OF_GIVEN: Final = 500
"""Intervals, also where their length is given: more are narrower than what is drawn."""

_FEW: Final = 10
"""Intervals that are never joined, whatever they lack."""

_MOST_KNOWN: Final = 0.75
"""Share of intervals that have a p99, so that it is a curve and not some dashes."""


@attrs.define(eq=False)
class Timeline:
    """Takes the reports of a running load, and keeps those with which an interval ends."""

    every: float | None = None
    """Seconds of an interval; None for as short as there is something to say of each."""
    _ends: list[LoadReport] = attrs.field(factory=list)
    _length: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._length = _SHORTEST if self.every is None else self.every

    def take(self, report: LoadReport) -> None:
        """Keep a report if an interval ends with it, which is when its length is over."""
        begin = self._ends[-1].seconds if self._ends else 0.0
        # Where nobody has asked for a length, an end is the report that is nearest to it.
        early = _SHORTEST / 2 if self.every is None else 0.0
        if report.seconds < ((begin + early) // self._length + 1) * self._length - early:
            return
        self._ends.append(report)
        if len(self._ends) > (_MOST if self.every is None else _MOST_OF_GIVEN):
            self._ends = self._ends[1::2]
            self._length *= 2

    def intervals(self, last: LoadReport) -> list[Interval]:
        """Return all intervals of the load, with the rest up to its last report."""
        ends = [*self._ends]
        rest = until_given_up(last)
        if ends and rest.seconds - ends[-1].seconds < self._length / 2:
            # A trip or two in a few milliseconds are no rate; they are the last interval's.
            ends.pop()
        if rest.seconds > (ends[-1].seconds if ends else 0.0):
            ends.append(rest)
        found = _between(ends)
        while self.every is None and len(found) > _FEW and not _say_enough(found):
            ends = [*ends[-3::-2][::-1], ends[-1]]
            found = _between(ends)
        return found


def _between(ends: list[LoadReport]) -> list[Interval]:
    pairs = zip([None, *ends], ends, strict=False)
    return [Interval.between(earlier, later) for earlier, later in pairs]


def _say_enough(intervals: list[Interval]) -> bool:
    """Return whether most of the intervals in which something came back have a p99."""
    known = [each.percentile(99) is not None for each in intervals if each.received]
    return sum(known) >= _MOST_KNOWN * len(known)
