"""What tests of a history share: spans and changes made in a line, and a file of them."""

from __future__ import annotations

from collections.abc import Iterable

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._watch.counts import DAY, MINUTE, Counts, Span
from techo._watch.events import Change, Event, EventKind, State
from techo._watch.history_file import open_to_write
from techo._watch.history_writer import Keep, NewChange, NewSpan, Writer

BEGIN = 20_000 * DAY
"""A midnight in Unix time."""


def span(start: int, *durations: int, target: str = "web", lost: int = 0) -> Span:
    """Return a minute in which some probes came back, and some were lost."""
    counts = Counts(Histogram.of(durations), down_seconds=0.5 * lost)
    if lost:
        counts.failures[FailureCause.REFUSED] = lost
    return Span(target, start, MINUTE, counts)


def outage(since: float, seconds: float | None = None) -> Event:
    """Return an event, which goes on unless it lasted so long."""
    return Event(
        kind=EventKind.DOWN,
        since=since,
        seconds=seconds,
        probes=3,
        cause=FailureCause.REFUSED,
        first_error="connection refused",
        last_error="connection refused" if seconds is None else "host is down",
    )


def change(
    at: float,
    state: State,
    *,
    target: str = "web",
    ended: Event | None = None,
    began: Event | None = None,
) -> Change:
    """Return a change into a state."""
    return Change(
        target=target,
        group="",
        labels={"site": "a"},
        at=at,
        before=State.UNKNOWN,
        state=state,
        ended=ended,
        began=began,
    )


def write(path: str, rows: Iterable[Span | Change]) -> None:
    """Write a history, or add to one."""
    file = open_to_write(path)
    Writer(file, Keep()).write(
        [NewSpan.of(each) if isinstance(each, Span) else NewChange.of(each) for each in rows]
    )
    file.close()
