"""The table of all targets: the texts of its cells, which page and script show alike."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from techo._printable import printable
from techo._probing.text import milliseconds
from techo._watch.counts import Snapshot
from techo._watch.events import State

COLUMNS: Final = {
    "state": "state",
    "last": "last, ms",
    "p50": "p50, ms",
    "p99": "p99, ms",
    "loss": "lost, %",
    "since": "since (UTC)",
    "cause": "last cause",
}
"""What is known of each target, beside its name, and how the page calls it."""

SYMBOLS: Final = {
    State.UP: "\N{BLACK CIRCLE}",
    State.DEGRADED: "\N{BLACK UP-POINTING TRIANGLE}",
    State.DOWN: "\N{HEAVY MULTIPLICATION X}",
    State.FLAPPING: "\N{UP DOWN ARROW}",
    State.UNKNOWN: "\N{WHITE CIRCLE}",
}
"""Each state has a shape, so that nobody needs the colours."""

_LONGEST_CAUSE: Final = 160
"""Characters: what a server or a resolver said can be long."""

_LEAST_LOSS: Final = 0.01
"""Per cent: what is less is not shown as nothing."""


@attrs.frozen
class Row:
    """One target, in texts."""

    target: str
    group: str
    endpoint: str
    state: str
    since: float
    cells: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return what changes of it as JSON has it, and its name."""
        return {
            "target": self.target,
            "state": self.state,
            "since": self.since,
            "cells": self.cells,
        }


def row_of(snapshot: Snapshot) -> Row:
    """Return a target's row; its figures are those since the beginning."""
    total = snapshot.total
    some = bool(total.received or total.lost)
    last = milliseconds(snapshot.last_ns) if snapshot.last_ns is not None else "lost"
    words = [SYMBOLS[State(snapshot.state)], snapshot.state]
    if snapshot.down and snapshot.state != State.DOWN:
        words.append("(down)")
    cells = {
        "state": " ".join(words),
        "last": last if some else "-",
        "p50": milliseconds(total.percentile(50)),
        "p99": milliseconds(total.percentile(99)),
        "loss": _percent(total.loss),
        "since": utc(snapshot.since),
        "cause": _cause(snapshot),
    }
    return Row(
        snapshot.target,
        snapshot.group,
        snapshot.endpoint,
        snapshot.state,
        snapshot.since,
        cells,
    )


def utc(at: float) -> str:
    """Return a moment as the page shows it."""
    return dt.datetime.fromtimestamp(at, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _percent(loss: float | None) -> str:
    if loss is None:
        return "-"
    return f"<{_LEAST_LOSS}" if 0 < loss < _LEAST_LOSS else f"{loss:.2f}"


def _cause(snapshot: Snapshot) -> str:
    if snapshot.cause is None:
        return "-"
    reason = printable(snapshot.reason)
    text = f"{snapshot.cause}: {reason}" if reason else str(snapshot.cause)
    return shortened(text, _LONGEST_CAUSE)


def shortened(text: str, longest: int) -> str:
    """Return a text of so many characters at most."""
    return text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"


@attrs.frozen(slots=False)
class Table:
    """All targets, those of a group together."""

    at: float
    """When they were so, in Unix time."""
    oldest: float | None
    """Since when anything is known; None if nothing is."""
    rows: Sequence[Row]

    @classmethod
    def of(cls, rows: Iterable[Row], at: float, oldest: float | None = None) -> Table:
        """Return a table of rows; a group stands where its first target was."""
        groups = collections.defaultdict[str, list[Row]](list)
        for each in rows:
            groups[each.group].append(each)
        return cls(at, oldest, [each for group in groups.values() for each in group])

    @functools.cached_property
    def by_name(self) -> Mapping[str, Row]:
        """Each row by the name of its target."""
        return {each.target: each for each in self.rows}

    @functools.cached_property
    def version(self) -> str:
        """What differs if there are other targets, so that a page must be loaded anew."""
        names = "\0".join(f"{each.target}\0{each.group}\0{each.endpoint}" for each in self.rows)
        return hashlib.sha256(names.encode(errors="surrogatepass")).hexdigest()[:16]

    @property
    def summary(self) -> str:
        """How many are in which state, the worst first."""
        counts = collections.Counter(each.state for each in self.rows)
        worst = (State.DOWN, State.FLAPPING, State.DEGRADED, State.UNKNOWN, State.UP)
        return ", ".join(f"{counts[each]} {each}" for each in worst if counts[each]) or "none"

    def to_json(self) -> dict[str, Any]:
        """Return what the page's script needs, beside the rows."""
        return {
            "at": self.at,
            "oldest": self.oldest,
            "version": self.version,
            "summary": self.summary,
        }
