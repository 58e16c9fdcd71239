"""What watch says to people: a line for each change, and the table of all targets."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from techo._ping.statistics import PingStatistics
from techo._printable import printable
from techo._probing.text import milliseconds, number_of
from techo._watch.counts import Snapshot
from techo._watch.events import Change, Event, State

_COLUMNS: Final = ("state", "for", "last", "p50", "p99", "loss")
_WIDTHS: Final = (8, 7, 8, 8, 8, 6)
_LEAST: Final = 16
"""Characters of a target's name, at the least."""

_TIMES: Final = sum(_WIDTHS[2:]) + 3
"""Characters of all columns of figures, with one between them: there is a reason's place."""

_WORST_FIRST: Final = (
    State.DOWN,
    State.FLAPPING,
    State.DEGRADED,
    State.UNKNOWN,
    State.UP,
)

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def line_of(change: Change) -> str:
    """Return a change as a line for people."""
    at = _local(change.at).isoformat(sep=" ", timespec="seconds")[:19]
    return f"{at} {change.target} is {_news(change)}"


def _news(change: Change) -> str:
    began, ended, state = change.began, change.ended, change.state
    after = "" if ended is None else f" after {_lasted(ended)}"
    if state is State.FLAPPING:
        return "flapping: it changes too often for each change to be shown"
    if change.before is State.FLAPPING:
        return f"{state}, and flaps no more{after}"
    if began is not None and state is State.DOWN:
        since = _local(began.since).isoformat(sep=" ", timespec="milliseconds")[11:23]
        return f"down since {since}: {_lost(began)}"
    if began is not None:
        return f"{state}: {began.first_error}"
    again = "" if ended is None else f" again{after}"
    return f"{state}{again}"


def _lasted(event: Event) -> str:
    seconds = f"{event.seconds or 0.0:.3f} s {event.kind}"
    return f"{seconds}: {_lost(event)}" if event.probes else seconds


def _lost(event: Event) -> str:
    why = "" if event.cause is None else f", {event.cause} ({event.last_error})"
    return f"{number_of(event.probes, 'probe')} lost{why}"


def _local(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone()


def table_of(
    snapshots: Sequence[Snapshot], at: float, width: int, most: int | None = None
) -> Iterator[str]:
    """Return a table as lines; of `most` targets, the worst, if there are more.

    Times are in ms; percentiles and loss are of the last minute or so before `at`.
    """
    shown = snapshots
    if most is not None and len(snapshots) > most:
        worst = sorted(snapshots, key=lambda each: _WORST_FIRST.index(State(each.state)))
        shown = worst[: max(0, most)]
    room = max(_LEAST, width - sum(_WIDTHS) - len(_WIDTHS))
    longest = min(
        room, max(map(_width_of, ["target", *(printable(each.target) for each in shown)]))
    )
    heads = zip(_COLUMNS, _WIDTHS, strict=True)
    yield f"{'target':<{longest}} " + " ".join(f"{name:>{size}}" for name, size in heads)
    for each in shown:
        yield f"{_fitted(printable(each.target), longest)} {_figures(each, at)}"
    if len(shown) < len(snapshots):
        yield f"and {number_of(len(snapshots) - len(shown), 'other target')}"


def totals_of(found: Mapping[str, PingStatistics], width: int) -> Iterator[str]:
    """Return what has come of all probes of each target, as a table; times are in ms."""
    heads = ("sent", "lost", "loss", "min", "p50", "p99", "max")
    rows = [heads, *(tuple(_totals(each)) for each in found.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names = ["target", *map(printable, found)]
    room = max(_LEAST, width - sum(widths) - len(widths))
    longest = min(room, max(map(_width_of, names)))
    for name, row in zip(names, rows, strict=True):
        cells = (f"{text:>{size}}" for text, size in zip(row, widths, strict=True))
        yield f"{_fitted(name, longest)} {' '.join(cells)}"


def _totals(found: PingStatistics) -> Iterator[str]:
    yield f"{found.sent:,}"
    yield f"{found.lost:,}"
    yield "-" if found.loss is None else f"{found.loss:.3g} %"
    times, some = found.latency, bool(found.received)
    yield milliseconds(times.min if some else None)
    yield from (milliseconds(found.percentile(each)) for each in (50, 99))
    yield milliseconds(times.max if some else None)


def _figures(found: Snapshot, at: float) -> str:
    state = f"{found.state:>{_WIDTHS[0]}} {duration(at - found.since):>{_WIDTHS[1]}}"
    if found.down and found.cause is not None:
        reason = printable(f"{found.cause} ({found.reason})")
        return f"{state} {shortened(reason, _TIMES)}"
    recent = found.recent
    times = (found.last_ns, recent.percentile(50), recent.percentile(99))
    loss = "-" if recent.loss is None else f"{recent.loss:.3g} %"
    cells = (*map(milliseconds, times), loss)
    widths = _WIDTHS[2:]
    return f"{state} " + " ".join(
        f"{text:>{size}}" for text, size in zip(cells, widths, strict=True)
    )


def duration(seconds: float) -> str:
    """Return how long something is so, in two units at the most: 3d4h, 5m10s, 42s."""
    rest, parts = max(0, int(seconds)), list[str]()
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def _width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes; some characters take two."""
    if text.isascii():
        return len(text)
    return sum(
        2 if unicodedata.east_asian_width(each) in "WF" else not unicodedata.combining(each)
        for each in text
    )


def _fitted(text: str, width: int) -> str:
    """Return a text of this width."""
    text = shortened(text, width)
    return text + " " * (width - _width_of(text))


def shortened(text: str, most: int) -> str:
    """Return a text, without its middle if it takes more columns than that."""
    if _width_of(text) <= most:
        return text
    left = _beginning(text, (most - 1) // 2)
    right = _beginning(text[::-1], most - 1 - (most - 1) // 2)[::-1]
    return f"{left}…{right}"


def _beginning(text: str, most: int) -> str:
    """Return as much of a text as there is room for."""
    taken = 0
    for index, each in enumerate(text):
        taken += _width_of(each)
        if taken > most:
            return text[:index]
    return text


def counts_of(snapshots: Sequence[Snapshot]) -> str:
    """Return how many targets are in which state, as a line for people."""
    states = [State(each.state) for each in snapshots]
    counted = ((state, states.count(state)) for state in _WORST_FIRST)
    return ", ".join(f"{count:,} {state}" for state, count in counted if count)
