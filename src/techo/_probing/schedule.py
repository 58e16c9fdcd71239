"""The schedule: when trips begin, be it as fast as they come back or at a rate."""

from __future__ import annotations

import enum
import math
from typing import Final

import attrs

_ROUNDING: Final = 1e-9
"""Seconds by which two ways to the same moment may differ. Trio's clock begins at up to a
million seconds, of which a float knows a tenth of that."""


class Overdue(enum.Enum):
    """What becomes of trips that could not begin when they were due."""

    SENT = enum.auto()
    """They are sent as soon as possible, so that a slow server can't hide what it delays."""
    MISSED = enum.auto()
    """They are left out but for the latest, so that nothing is sent in a burst."""


@attrs.define(eq=False)
class Schedule:
    """When the trips of a run should begin. Times are the run's clock, in seconds."""

    begin: float
    """When the run began; infinity before that."""
    warm_up: float
    """Seconds at the beginning whose trips are not counted."""
    seconds: float
    """How long after that trips begin; infinite where their number is given."""
    trips: int | None
    """How many begin after the warm-up; None for as many as there is time for."""
    rate: float | None
    """Trips per second; None for one as soon as there is room for it."""
    overdue: Overdue = Overdue.SENT
    paused: bool = False
    """Whether all that is due is missed."""
    missed: int = attrs.field(default=0, init=False)
    """Trips that were left out."""
    _taken: int = attrs.field(default=0, init=False)
    _counted: int = attrs.field(default=0, init=False)
    _stopped: float = attrs.field(default=math.inf, init=False)
    _closed: bool = attrs.field(default=False, init=False)

    @property
    def counts_from(self) -> float:
        """When the warm-up is over."""
        return self.begin + self.warm_up

    @property
    def end(self) -> float:
        """When no more trips are due."""
        return min(self.counts_from + self.seconds, self._stopped)

    def counts(self, due: float) -> bool:
        """Return whether a trip that is due then is not part of the warm-up."""
        return due >= self.begin + self.warm_up - _ROUNDING

    def warming_up(self, now: float) -> bool:
        """Return whether what happens now is part of the warm-up."""
        return self.begin <= now < self.begin + self.warm_up - _ROUNDING

    def next_due(self, now: float) -> float | None:
        """Return when the next trip is due, which may be past; None after the last."""
        due = now if self.rate is None else self.begin + self._taken / self.rate
        over = due >= self.end - _ROUNDING or self._counted == self.trips or self._closed
        return None if over else due

    def take(self, now: float) -> float | None:
        """Begin a trip, if one is due; return when it was."""
        if self.overdue is Overdue.MISSED:
            self._miss(now)
        return self.take_oldest(now)

    def take_oldest(self, now: float) -> float | None:
        """Begin the trip that has been due for longest, if there is one; return since when."""
        due = self.next_due(now)
        if due is None or due > now:
            return None
        self._taken += 1
        self._counted += self.counts(due)
        return due

    def _miss(self, now: float) -> None:
        """Leave out what is due but for the latest, or all of it while paused."""
        if self.rate is None or self.next_due(now) is None:
            return
        latest = math.floor((now - self.begin + _ROUNDING) * self.rate) + self.paused
        skipped = max(0, latest - self._taken)
        self.missed += skipped
        self._taken += skipped

    def unsent(self, now: float) -> int:
        """Count the trips that are due, or never will be, and have not begun."""
        stopped = self._stopped < math.inf
        if self.trips is not None and not stopped and (self._closed or self.rate is None):
            return self.trips - self._counted
        if self.rate is None:
            return 0
        due = math.ceil(round((min(self.end, now) - self.begin) * self.rate, 6))
        if self.trips is not None:
            due = min(due, self.trips + math.ceil(round(self.warm_up * self.rate, 6)))
        return max(0, due - self._taken)

    def stop(self, now: float) -> None:
        """Let no more trips be due than were by now."""
        self._stopped = now

    def close(self) -> None:
        """Let no more trips begin; what is unsent remains so."""
        self._closed = True
