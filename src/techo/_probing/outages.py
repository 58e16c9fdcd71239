"""Outages: how long nothing came back, from the first probe without an answer."""

from __future__ import annotations

from typing import Self

import attrs

from techo._probing.trip import Trip, TripState


@attrs.frozen
class Outage:
    """Probes in a row that were not answered in time."""

    since: float
    """When the first of them was sent, in Unix time."""
    until: float | None
    """When the first was sent that was answered again; None if none has been."""
    seconds: float
    """From the one to the other; or to when the last of them had failed."""
    probes: int


@attrs.frozen
class _Settled:
    """A probe in the moment in which its fate was known."""

    answered: bool
    sent: float
    over: float
    """When its fate was known, in the run's clock as `sent`."""
    sent_at: float
    """When it was sent, in Unix time."""


@attrs.define(eq=False)
class Outages:
    """Follows probes in the order in which they were sent, whichever is settled first."""

    count: int = 0
    seconds: float = 0.0
    longest: Outage | None = None
    _settled: dict[int, _Settled] = attrs.field(factory=dict)
    """By number: those that wait for the fate of one that was sent before."""
    _next: int = 1
    """The number of the first probe whose fate is not known."""
    _first: _Settled | None = None
    """Of an outage that goes on."""
    _last: _Settled | None = None
    _probes: int = 0

    def settle(self, trip: Trip, now: float, at: float) -> None:
        """Take in the fate of a probe, known at `now` in the run's clock, `at` in Unix time."""
        answered = trip.state is TripState.ANSWERED
        self._settled[trip.number] = _Settled(answered, trip.sent, now, at - (now - trip.sent))
        while (settled := self._settled.pop(self._next, None)) is not None:
            self._next += 1
            self._follow(settled)

    def _follow(self, probe: _Settled) -> None:
        if probe.answered:
            self._close(probe)
            return
        self._first = self._first or probe
        self._last = probe
        self._probes += 1

    def _close(self, answered: _Settled | None = None) -> None:
        """End what goes on, because a probe was answered or because there are no more."""
        first, last = self._first, self._last
        if first is None or last is None:
            return
        until = None if answered is None else answered.sent_at
        end = last.over if answered is None else answered.sent
        outage = Outage(first.sent_at, until, end - first.sent, self._probes)
        self.count += 1
        self.seconds += outage.seconds
        if self.longest is None or outage.seconds > self.longest.seconds:
            self.longest = outage
        self._first, self._probes = None, 0

    def so_far(self) -> Self:
        """Return a copy in which the outage that goes on has ended with its last probe."""
        copy = attrs.evolve(self, settled={})
        copy._close()  # noqa: SLF001  -- it is one of us
        return copy
