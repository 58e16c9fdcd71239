"""Arrivals: when the trips of a rate are due, evenly or at random, also where the rate rises.

Trips are numbered as they would come at a rate of one a second: evenly that is 0, 1, 2 and so
on, at random the sum of exponential gaps whose mean is 1. The rate then says when each of these
numbers is reached. So a rate that rises and arrivals at random know nothing of each other.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Iterator

import attrs

from techo._probing.schedule import ROUNDING, Schedule


class Arrivals(enum.StrEnum):
    """How the trips of a rate follow each other."""

    UNIFORM = "uniform"
    """Evenly: each as long after the one before."""
    POISSON = "poisson"
    """At random, as those of many users who know nothing of each other: a Poisson process."""


def arrivals_of(arrivals: str) -> Arrivals:
    """Return the member that has this word.

    Raises:
        ValueError: there is none; the text has those that there are.
    """
    try:
        return Arrivals(arrivals)
    except ValueError:
        words = " nor ".join(repr(str(each)) for each in Arrivals)
        raise ValueError(f"arrivals {arrivals!r} are neither {words}") from None


@attrs.frozen
class RisingRate:
    """A rate that rises evenly from 0, and then stays."""

    rate: float
    """Trips per second in the end."""
    ramp: float = 0.0
    """Seconds until then."""

    def trips_within(self, seconds: float) -> float:
        """Return how many trips are due in so many seconds: the integral of the rate."""
        if seconds < self.ramp:
            return self.rate * seconds * seconds / (2 * self.ramp)
        return self.rate * (seconds - self.ramp / 2)

    def seconds_for(self, trips: float) -> float:
        """Return how many seconds so many trips take: the inverse."""
        if trips < self.rate * self.ramp / 2:
            return math.sqrt(2 * self.ramp * trips / self.rate)
        return trips / self.rate + self.ramp / 2


@attrs.frozen
class DueTimes:
    """When trips are due, in seconds since the beginning; the same each time it is asked."""

    rate: RisingRate
    seed: int | None = None
    """Of the generator that they are drawn from; None if they are evenly spread."""
    first: float = 0.0
    """The number of the first trip where they are even; the others count on from it."""

    def __iter__(self) -> Iterator[float]:
        return map(self.rate.seconds_for, self._numbers())

    def _numbers(self) -> Iterator[float]:
        if self.seed is None:
            return map(self.first.__add__, itertools.count())
        import random  # noqa: PLC0415  -- the words of this file are wanted where it is not

        draw = random.Random(self.seed).expovariate  # noqa: S311  -- nobody is to be fooled
        return itertools.accumulate(draw(1.0) for _ in itertools.repeat(None))


@attrs.define(eq=False)
class _Counter:
    """Counts due times up to some moment, from which on it goes on counting."""

    times: DueTimes
    warm_up: float
    """Seconds that make the warm-up."""
    passed: int = attrs.field(default=0, init=False)
    """Due times before `due`."""
    in_warm_up: int = attrs.field(default=0, init=False)
    """Those of them that are part of the warm-up."""
    due: float = attrs.field(init=False)
    """The next, in seconds since the beginning."""
    _last: float = attrs.field(default=-math.inf, init=False)
    _rest: Iterator[float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rest = iter(self.times)
        self.due = next(self._rest)

    def move_to(self, seconds: float, trips: float = math.inf) -> None:
        """Pass all that is due before then; it need not be more `trips` behind the warm-up."""
        if self._last >= seconds:  # which nobody asks while time goes on
            self.passed, self.in_warm_up, self._last = 0, 0, -math.inf
            self.__attrs_post_init__()
        while self.due < seconds and self.passed - self.in_warm_up < trips:
            self.passed += 1
            self.in_warm_up += self.due < self.warm_up
            self._last, self.due = self.due, next(self._rest)


@attrs.define(eq=False)
class ArrivalSchedule(Schedule):
    """A schedule whose trips are due at other times than evenly spread ones."""

    times: DueTimes = attrs.field(kw_only=True)
    _rest: Iterator[float] = attrs.field(init=False)
    _due: float = attrs.field(init=False)
    """When the next trip is due that has not begun, in seconds since the beginning."""
    _counter: _Counter = attrs.field(init=False)
    """Looks ahead of that."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._rest = iter(self.times)
        self._due = next(self._rest)
        self._counter = _Counter(self.times, self.warm_up - ROUNDING)

    def next_due(self, now: float) -> float | None:  # noqa: ARG002  -- others need it
        """Return when the next trip is due, which may be past; None after the last."""
        due = self.begin + self._due
        return None if due >= self._last_due or self._counted == self.trips else due

    def due_after(self, now: float) -> float:
        """Return when a trip is due after now, whether those before it have begun."""
        self._counter.move_to(now - self.begin + ROUNDING)
        return self.begin + self._counter.due

    def take(self, now: float) -> float | None:
        """Begin the trip that has been due for longest; see `Schedule.take`."""
        due = self.begin + self._due
        if due > now or due >= self._last_due or self._counted == self.trips:
            return None
        self._go_on()
        self._counted += due >= self._first_counted
        return due

    def _go_on(self) -> None:
        self._taken += 1
        self._due = next(self._rest)

    def miss(self, now: float) -> None:
        """Leave out all that were due before the one that was due last."""
        if self.next_due(now) is not None:
            self._counter.move_to(now - self.begin + ROUNDING)
            latest = self._counter.passed - 1 + self.paused
            while self._taken < latest:
                self._go_on()
                self.missed += 1

    def _seconds_of(self, trips: int) -> float:
        rate = self.times.rate
        return rate.seconds_for(rate.trips_within(self.warm_up) + trips) - self.warm_up

    def _due_before(self, moment: float) -> int:
        counter, trips = self._counter, math.inf if self.trips is None else self.trips
        counter.move_to(moment - self.begin - ROUNDING, trips)
        return int(min(counter.passed, counter.in_warm_up + trips))
