"""What a history says of a time: of each target the sum of its spans, and its events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from techo._probing.histogram import nanoseconds
from techo._schema import headed
from techo._watch.counts import Counts
from techo._watch.events import Change, Event, EventKind
from techo._watch.history_reader import Reader


@attrs.frozen
class TargetReport:
    """What became of one target in a time, or of several together."""

    target: str | None
    """Its name; None if this is the sum of several."""
    since: int | None
    """When the first of its spans began, in Unix time; None if there is none."""
    until: int | None
    """When the last one ended, likewise."""
    counts: Counts
    """The sum of its spans."""
    events: Sequence[Event]
    """What was over in that time, or had begun by its end; in the order of when it began."""
    changes: Sequence[Change] = ()
    """Those in that time."""

    @classmethod
    def added_up(cls, reports: Sequence[TargetReport]) -> TargetReport:
        """Return the sum of several, without their changes."""
        counts = Counts()
        for each in reports:
            counts.add(each.counts)
        events = sorted(
            (event for each in reports for event in each.events), key=lambda event: event.since
        )
        since = min((each.since for each in reports if each.since is not None), default=None)
        until = max((each.until for each in reports if each.until is not None), default=None)
        return cls(None, since, until, counts, events)

    @property
    def outages(self) -> Sequence[Event]:
        """The events in which it was down."""
        return [event for event in self.events if event.kind is EventKind.DOWN]

    def seconds_of(self, event: Event) -> float:
        """Return how long an event lasted, as far as it is in the history."""
        if event.seconds is not None:
            return event.seconds
        return max(0.0, (self.until or 0) - event.since)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, without its changes."""
        longest = max(self.outages, key=self.seconds_of, default=None)
        total = sum(map(self.seconds_of, self.outages))
        return headed(
            "history",
            target=self.target,
            from_ns=None if self.since is None else self.since * 10**9,
            to_ns=None if self.until is None else self.until * 10**9,
            **self.counts.to_json(),
            outages={
                "count": len(self.outages),
                "total_ns": nanoseconds(total),
                "longest": None if longest is None else self._outage(longest),
            },
        )

    def _outage(self, event: Event) -> dict[str, Any]:
        return {
            "from_ns": nanoseconds(event.since),
            "to_ns": None if event.until is None else nanoseconds(event.until),
            "duration_ns": nanoseconds(self.seconds_of(event)),
            "probes": event.probes,
        }


def events_of(changes: Iterable[Change], since: float) -> list[Event]:
    """Return the events of one target, but for those that were over before a moment.

    What has begun and has no end goes on, or the watching ended meanwhile.
    """
    events = dict[tuple[str, float], Event]()
    for change in changes:
        for event in (change.ended, change.began):
            if event is not None:
                events[event.kind, event.since] = event
    found = [each for each in events.values() if each.until is None or each.until >= since]
    return sorted(found, key=lambda event: event.since)


def report_of(reader: Reader, target: str, since: float) -> TargetReport:
    """Return what a history says of a target since a moment."""
    spans, counts = reader.fewest(target, since), Counts()
    for span in spans:
        counts.add(span.counts)
    changes = reader.changes(target, since, math.inf, with_last=True)
    return TargetReport(
        target,
        spans[0].start if spans else None,
        spans[-1].start + spans[-1].seconds if spans else None,
        counts,
        events_of(changes, since),
        [each for each in changes if each.at >= since],
    )
