"""Outages: how long nothing came back, from the first message without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import attrs

from techo._probing.histogram import nanoseconds
from techo._probing.sequence import InSequence
from techo._probing.trip import Trip, TripState
from techo._validation import NATURAL

_MOST_SPANS: Final = 1000
"""Outages of which both ends are kept: a picture of a thousand shows no more."""

_MOMENT: Final = attrs.evolve(NATURAL, also=None)
"""Nanoseconds of Unix time are more than anything that is measured."""


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
    """How many were lost meanwhile."""

    def to_json(self) -> dict[str, int | None]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return {
            "from_ns": nanoseconds(self.since),
            "to_ns": None if self.until is None else nanoseconds(self.until),
            "duration_ns": nanoseconds(self.seconds),
            "probes": self.probes,
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read back what `to_json` returned.

        Raises:
            ValueError: it is not that; the text says what is wrong.
        """
        names = ("from_ns", "to_ns", "duration_ns", "probes")
        if not isinstance(data, Mapping) or not data.keys() >= set(names):
            raise ValueError(
                f"an outage has {', '.join(names)}, and this is {str(data)[:60]!r}"
            )
        since, until, duration, probes = (data[name] for name in names)
        NATURAL.check(duration_ns=duration, probes=probes)
        _MOMENT.check(from_ns=since)
        _MOMENT.or_off().check(to_ns=until)
        return cls(since / 1e9, None if until is None else until / 1e9, duration / 1e9, probes)


def outages_to_json(count: int, seconds: float, longest: Outage | None) -> dict[str, Any]:
    """Return how many there were, how long all together and the longest, as JSON has it."""
    return {
        "count": count,
        "total_ns": nanoseconds(seconds),
        "longest": longest.to_json() if longest else None,
    }


def outages_from_json(data: object) -> tuple[int, float, Outage | None]:
    """Read back what `outages_to_json` returned.

    Raises:
        ValueError: it is not that; the text says what is wrong.
    """
    names = ("count", "total_ns", "longest")
    if not isinstance(data, Mapping) or not data.keys() >= set(names):
        raise ValueError(f"outages have {', '.join(names)}, and these are {str(data)[:60]!r}")
    count, total, longest = (data[name] for name in names)
    NATURAL.check(count=count)
    _MOMENT.check(total_ns=total)
    return count, total / 1e9, None if longest is None else Outage.from_json(longest)


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
class _Counted:
    """Outages that are over."""

    count: int = 0
    seconds: float = 0.0
    """Of all of them together."""
    longest: Outage | None = None

    def _add(self, outage: Outage) -> None:
        self.count += 1
        self.seconds += outage.seconds
        if self.longest is None or outage.seconds > self.longest.seconds:
            self.longest = outage


@attrs.define(eq=False)
class Outages(_Counted):
    """Follows probes in the order in which they were sent, whichever is settled first."""

    _settled: InSequence[_Settled] = attrs.field(factory=InSequence)
    _first: _Settled | None = None
    """Of an outage that goes on."""
    _last: _Settled | None = None
    _probes: int = 0

    def settle(self, trip: Trip, now: float, at: float) -> None:
        """Take in the fate of a probe, known at `now` in the run's clock, `at` in Unix time."""
        answered = trip.state is TripState.ANSWERED
        settled = _Settled(answered, trip.sent, now, at - (now - trip.sent))
        for each in self._settled.put(trip.number, settled):
            self._follow(each)

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
        self._add(Outage(first.sent_at, until, end - first.sent, self._probes))
        self._first, self._probes = None, 0

    def so_far(self) -> Self:
        """Return a copy in which the outage that goes on has ended with its last probe."""
        copy = attrs.evolve(self, settled=InSequence())
        copy._close()  # noqa: SLF001  -- it is one of us
        return copy


@attrs.define(eq=False)
class Silences(_Counted):
    """Follows how long nothing at all came back, over however many connections.

    Times are the run's clock, those called `at` Unix time.
    """

    open: bool = False
    """Whether something has failed, and nothing has come back since."""
    _since: float = 0.0
    _since_at: float = 0.0
    _probes: int = 0
    sent: float = 0.0
    """When the last that has failed was sent."""
    spans: list[tuple[float, float]] = attrs.field(factory=list)
    """From when to when they were, of the first so many."""

    def failed(self, since: float, now: float, at: float, *, probes: int) -> None:
        """Note that what was sent at `since` has failed; nothing has come back from then on."""
        if not self.open:
            self.open = True
            self._since, self._since_at = since, at - (now - since)
        self._probes += probes
        self.sent = max(self.sent, since)

    def replied(self, sent: float, now: float, at: float) -> None:
        """Note that what was sent at `sent` has come back, which ends what is open."""
        if sent > self._since:  # or there was none: it was on its way all the time
            until = at - (now - sent)
            self._end(Outage(self._since_at, until, sent - self._since, self._probes))
        self.open, self._probes = False, 0

    def so_far(self, end: float) -> Self:
        """Return a copy in which an open outage has lasted until `end`, if that is later."""
        copy = attrs.evolve(self, spans=self.spans.copy())
        seconds = max(0.0, end - self._since)
        if self.open and (seconds or not self._probes):
            copy._end(Outage(self._since_at, None, seconds, self._probes))  # noqa: SLF001  -- ours
        return copy

    def _end(self, outage: Outage) -> None:
        self._add(outage)
        if len(self.spans) < _MOST_SPANS:
            self.spans.append((self._since, self._since + outage.seconds))
