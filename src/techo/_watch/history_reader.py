"""Reading a history: spans of one length, or of the finest that is left, and changes."""

from __future__ import annotations

import json
import math
import sqlite3
from typing import Final

import attrs

from techo._watch.counts import Counts, Span
from techo._watch.events import Change
from techo._watch.history_encoding import decode
from techo._watch.history_file import DAY, FINER, HOUR, MINUTE

_ALL: Final = """
SELECT start, target, counts FROM span
WHERE seconds = :seconds AND start >= :low AND start < :high
"""

_OF_ONE: Final = """
WITH RECURSIVE starts (start) AS (
    SELECT min(start) FROM span WHERE seconds = :seconds AND start >= :low
    UNION ALL
    SELECT (
        SELECT min(start) FROM span WHERE seconds = :seconds AND span.start > starts.start
    ) FROM starts WHERE starts.start < :high
)
SELECT span.start, target, counts FROM starts CROSS JOIN span
ON seconds = :seconds AND span.start = starts.start AND target = :target
WHERE starts.start < :high
"""
"""Looks once at each start that there is: rows of all targets stand in between."""

_CHANGES: Final = """
SELECT data FROM target CROSS JOIN change ON change.target = target.id
WHERE (:name IS NULL OR name = :name) AND at < :until AND at >= coalesce((
    SELECT at FROM change AS earlier WHERE earlier.target = target.id AND earlier.at < :since
    ORDER BY at DESC LIMIT 1
), :since)
ORDER BY at, change.id
"""

_LATEST: Final = 2**62
"""After every moment that a row can have."""


def in_database(name: str) -> str:
    """Return a name as SQLite can keep it, which has no half of a character."""
    return name.encode("utf-8", "backslashreplace").decode()


@attrs.frozen
class Level:
    """How far the spans of one length have come."""

    rolled: int
    """Those before this were made of finer ones."""
    pruned: int
    """Those before this are gone."""


def levels_of(connection: sqlite3.Connection) -> dict[int, Level]:
    """Return how far the spans of each length have come."""
    rows = connection.execute("SELECT seconds, rolled, pruned FROM level")
    return {seconds: Level(rolled, pruned) for seconds, rolled, pruned in rows}


@attrs.frozen
class Reader:
    """Reads through a connection, in the thread that calls."""

    _connection: sqlite3.Connection

    def targets(self) -> list[str]:
        """Return the names of all targets, sorted."""
        return sorted(name for (name,) in self._connection.execute("SELECT name FROM target"))

    def extent(self) -> int | None:
        """Return when the first span began, in Unix time; None if there is none."""
        query = "SELECT min(start) FROM span WHERE seconds = ?"
        starts = [
            self._connection.execute(query, (seconds,)).fetchone()[0]
            for seconds in (MINUTE, HOUR, DAY)
        ]
        # A day that was rolled up began before the first minute of it.
        return min((each for each in starts if each is not None), default=None)

    def spans(self, target: str | None, since: float, until: float, seconds: int) -> list[Span]:
        """Return the spans of one length that have some of a time in them, in their order.

        What was not rolled up yet is, to be returned. Without a target they are those of all.
        """
        names = self._names(target)
        low, high = _down(since, seconds), _up(until, seconds)
        found = self._added_up(None if target is None else [*names], low, high, seconds)
        spans = (
            Span(names[number], start, seconds, counts)
            for (start, number), counts in found.items()
        )
        return sorted(spans, key=lambda span: (span.start, span.target))

    def finest(self, target: str, since: float, until: float) -> list[Span]:
        """Return the spans of a target that have some of a time in them, none of it twice.

        These are minutes and, where they are gone, hours, and before these days.
        """
        levels = levels_of(self._connection)
        hours = _up(levels[HOUR].pruned, DAY)
        minutes = max(hours, _up(levels[MINUTE].pruned, HOUR))
        found = list[Span]()
        for seconds, begin, end in (
            (DAY, 0, hours),
            (HOUR, hours, minutes),
            (MINUTE, minutes, _LATEST),
        ):
            low, high = max(since, begin), min(until, end)
            if low < high:
                found += self.spans(target, low, high, seconds)
        return found

    def changes(self, target: str | None, since: float, until: float) -> list[Change]:
        """Return the changes in a time, and of each target the last one before it.

        So what went on when it began is known. Without a target they are those of all.
        """
        name = None if target is None else in_database(target)
        rows = self._connection.execute(
            _CHANGES, {"name": name, "since": since, "until": until}
        )
        return [Change.from_json(json.loads(data)) for (data,) in rows]

    def _names(self, target: str | None) -> dict[int, str]:
        """Return the names of targets by their numbers; only that of one if there is one."""
        if target is None:
            return dict(self._connection.execute("SELECT id, name FROM target"))
        query = "SELECT id FROM target WHERE name = ?"
        rows = self._connection.execute(query, (in_database(target),))
        return {number: target for (number,) in rows}

    def _added_up(
        self, only: list[int] | None, low: int, high: int, seconds: int
    ) -> dict[tuple[int, int], Counts]:
        """Return counts by start and target; `low` and `high` are multiples of `seconds`."""
        values = {"seconds": seconds, "low": low, "high": high}
        if only is None:
            rows = self._connection.execute(_ALL, values).fetchall()
        else:
            rows = [
                row
                for number in only
                for row in self._connection.execute(_OF_ONE, values | {"target": number})
            ]
        found = {(start, number): decode(counts) for start, number, counts in rows}
        if seconds in FINER:
            begin = max(low, levels_of(self._connection)[seconds].rolled)
            if begin < high:
                finer = self._added_up(only, begin, high, FINER[seconds])
                rest = dict[tuple[int, int], Counts]()
                for (start, number), counts in finer.items():
                    key = start - start % seconds, number
                    if key in found:
                        continue
                    if key in rest:
                        rest[key].add(counts)
                    else:
                        rest[key] = counts
                found |= rest
        return found


def _down(moment: float, seconds: int) -> int:
    """Return the last multiple of `seconds` up to a moment, which may be infinitely early."""
    return math.floor(max(moment, 0) / seconds) * seconds


def _up(moment: float, seconds: int) -> int:
    """Return the first multiple of `seconds` from a moment on, which may be infinitely late."""
    return math.ceil(min(moment, _LATEST) / seconds) * seconds
