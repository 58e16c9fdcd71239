"""Columns: spans of time as the page draws them, and the events that fall into a range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from techo._watch.counts import Counts, Span
from techo._watch.events import Change, Event, EventKind
from techo._watch.table import Row

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400


def grade(seconds: int) -> int:
    """Return the length of the spans that columns of so many seconds can be merged from."""
    return next(each for each in (DAY, HOUR, MINUTE) if seconds % each == 0)


@attrs.define
class Column:
    """What became of a target's probes in the time that one column of its strip stands for."""

    start: int
    """In Unix time."""
    seconds: int
    received: int = 0
    lost: int = 0
    down_seconds: float = 0.0
    buckets: dict[int, int] = attrs.field(factory=dict)
    """See `Histogram.coarse`."""

    def add(self, counts: Counts) -> None:
        """Count a span's probes, too."""
        self.received += counts.received
        self.lost += counts.failures.total()
        self.down_seconds += counts.down_seconds
        counts.latency.coarse(self.buckets)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "start": self.start,
            "seconds": self.seconds,
            "received": self.received,
            "lost": max(0, self.lost),
            "down_seconds": self.down_seconds,
            "buckets": flat(self.buckets),
        }


def flat(buckets: Mapping[int, int]) -> list[int]:
    """Return coarse buckets as JSON has them: number and count take turns."""
    return [each for pair in sorted(buckets.items()) for each in pair]


@attrs.define
class Columns:
    """Spans merged into columns of so many seconds; a longer span is one of its own."""

    seconds: int
    _found: dict[int, Column] = attrs.field(factory=dict, init=False)

    def add(self, span: Span) -> None:
        """Count a span in its column."""
        width = max(self.seconds, span.seconds)
        start = span.start // width * width
        column = self._found.get(start)
        if column is None:
            column = self._found[start] = Column(start, width)
        column.add(span.counts)

    def to_json(self) -> list[dict[str, Any]]:
        """Return them as JSON has them, in order of time."""
        return [self._found[start].to_json() for start in sorted(self._found)]


def merged(spans: Iterable[Span], start: int, end: int) -> Counts:
    """Return the counts of all spans that begin in a range of time."""
    counts = Counts()
    for span in spans:
        if start <= span.start < end:
            counts.add(span.counts)
    return counts


def look_back(row: Row | None, since: float) -> float:
    """Return from when on to read changes, so that what began before a range is found, too."""
    return since if row is None else min(since, row.since)


def events(
    changes: Iterable[Change], row: Row | None, since: float, until: float
) -> list[Event]:
    """Return what lasted in a range of time, of one target's changes up to now, as it began.

    What goes on is known from its beginning, or else from the state of the target.
    """
    found = list[Event]()
    going_on = dict[EventKind, Event]()
    for change in changes:
        if change.ended is not None:
            going_on.pop(change.ended.kind, None)
            found.append(change.ended)
        if change.began is not None:
            going_on[change.began.kind] = change.began
    if row is not None and row.state in set(EventKind):
        kind = EventKind(row.state)
        going_on.setdefault(kind, Event(kind=kind, since=row.since))
    found += going_on.values()
    return sorted(
        (
            each
            for each in found
            if each.since < until and (each.until is None or each.until > since)
        ),
        key=lambda event: event.since,
    )
