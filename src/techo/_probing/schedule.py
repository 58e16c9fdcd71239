"""The schedule: when trips begin, be it as fast as they come back or at a rate."""

from __future__ import annotations

import math
from typing import Final

import attrs

ROUNDING: Final = 1e-9
"""Seconds by which two ways to the same moment may differ. Trio's clock begins at up to a
million seconds, of which a float knows a tenth of that."""


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
    paused: bool = False
    """Whether `take_latest` misses all that is due."""
    missed: int = attrs.field(default=0, init=False)
    """Trips that were left out."""
    _taken: int = attrs.field(default=0, init=False)
    _counted: int = attrs.field(default=0, init=False)
    _stopped: float = attrs.field(default=math.inf, init=False)
    _closed: bool = attrs.field(default=False, init=False)
    # What the hot path compares with, so that it need not add up: see `_settle`.
    _first_counted: float = attrs.field(init=False)
    _last_due: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._settle()

    def _settle(self) -> None:
        self._first_counted = self.counts_from - ROUNDING
        self._last_due = -math.inf if self._closed else self.end - ROUNDING

    def start(self, now: float) -> None:
        """Let the run begin now."""
        self.begin = now
        self._settle()

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
        return due >= self._first_counted

    def warming_up(self, now: float) -> bool:
        """Return whether what happens now is part of the warm-up."""
        return self.begin <= now < self._first_counted

    def next_due(self, now: float) -> float | None:
        """Return when the next trip is due, which may be past; None after the last."""
        due = now if self.rate is None else self.begin + self._taken / self.rate
        return None if due >= self._last_due or self._counted == self.trips else due

    def due_after(self, now: float) -> float:
        """Return when the rate has a trip after now, whether those before it have begun."""
        if self.rate is None:
            return now
        return (
            self.begin + (math.floor((now - self.begin + ROUNDING) * self.rate) + 1) / self.rate
        )

    def take(self, now: float) -> float | None:
        """Begin the trip that has been due for longest, if there is one; return since when.

        Those that could not begin when they were due begin as soon as possible, so that a slow
        server can't hide what it delays.
        """
        due = now if self.rate is None else self.begin + self._taken / self.rate
        if due > now or due >= self._last_due or self._counted == self.trips:
            return None
        self._taken += 1
        self._counted += due >= self._first_counted
        return due

    def take_latest(self, now: float) -> float | None:
        """Begin the trip that was due last, if there is one; return when.

        Those before it are missed, so that nothing is sent in a burst.
        """
        self.miss(now)
        return self.take(now)

    def miss(self, now: float) -> None:
        """Leave out all that were due before the one that was due last."""
        if self.rate is not None and self.next_due(now) is not None:
            latest = math.floor((now - self.begin + ROUNDING) * self.rate) + self.paused
            skipped = max(0, latest - self._taken)
            self.missed += skipped
            self._taken += skipped

    def asked(self, now: float) -> float:
        """Return how many seconds of counted trips were asked for, up to now.

        That is 0 where only the number of trips was, and they are sent as fast as possible.
        """
        end = self.end
        if self.trips is not None:
            last = self.counts_from + self._seconds_of(self.trips) if self.rate else -math.inf
            end = min(end, last)
        return max(0.0, min(now, end) - self.counts_from) if self.begin < math.inf else 0.0

    def unsent(self, now: float) -> int:
        """Return how many trips have not begun that are due, or that never will be."""
        stopped = self._stopped < math.inf
        if self.trips is not None and not stopped and (self._closed or self.rate is None):
            return self.trips - self._counted
        if self.rate is None:
            return 0
        return max(0, self._due_before(min(self.end, now)) - self._taken)

    def _seconds_of(self, trips: int) -> float:
        """Return how long so many trips take after the warm-up; there is a rate."""
        assert self.rate is not None  # noqa: S101  -- the caller has seen to it
        return trips / self.rate

    def _due_before(self, moment: float) -> int:
        """Return how many trips are due before a moment; there is a rate."""
        assert self.rate is not None  # noqa: S101  -- the caller has seen to it
        due = math.ceil(round((moment - self.begin) * self.rate, 6))
        if self.trips is not None:
            due = min(due, self.trips + math.ceil(round(self.warm_up * self.rate, 6)))
        return due

    def stop(self, now: float) -> None:
        """Let no more trips be due than were by now."""
        self._stopped = now
        self._settle()

    def close(self) -> None:
        """Let no more trips begin; what is unsent remains so."""
        self._closed = True
        self._settle()
