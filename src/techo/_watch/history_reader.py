"""Reading a history: spans of a length, or of the shortest that is left, and changes."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import attrs

from techo._watch.columns import Columns, Texts, grade
from techo._watch.counts import DAY, HOUR, MINUTE, Counts, Span
from techo._watch.events import Change
from techo._watch.history_encoding import decode
from techo._watch.history_file import FINER

_ALL: Final = """
SELECT start, target, counts FROM span
WHERE seconds = :seconds AND start >= :low AND start < :high
"""

_OF_SOME: Final = """
WITH RECURSIVE starts (start) AS (
    SELECT min(start) FROM span WHERE seconds = :seconds AND start >= :low
    UNION ALL
    SELECT (
        SELECT min(start) FROM span WHERE seconds = :seconds AND span.start > starts.start
    ) FROM starts WHERE starts.start < :high
)
SELECT span.start, target, counts FROM starts CROSS JOIN span
ON seconds = :seconds AND span.start = starts.start AND target IN ({targets})
WHERE starts.start < :high
"""
"""Looks once at each start that there is: rows of all targets stand in between."""

_CHANGES: Final = """
SELECT data FROM target CROSS JOIN change ON change.target = target.id
WHERE (:name IS NULL OR name = :name) AND at < :until AND at >= {begin}
ORDER BY at, change.id
"""

_LAST: Final = """coalesce((
    SELECT at FROM change AS earlier WHERE earlier.target = target.id AND earlier.at < :since
    ORDER BY at DESC LIMIT 1
), :since)
"""

_Row: TypeAlias = tuple[int, int, bytes]
"""When a span starts, the number of its target, and its counts."""

_LENGTHS: Final = (MINUTE, HOUR, DAY)

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
        found = [begin for begin, _ in self._ranges()]
        # A day that was rolled up began before the first minute of it.
        return min(found, default=None)

    def spans(self, target: str | None, since: float, until: float, seconds: int) -> list[Span]:
        """Return the spans that have some of a time in them, in their order, none of it twice.

        They are of that length, or longer where shorter ones are gone. What was not rolled up
        yet is, to be returned. Without a target they are those of all.
        """
        return self._spans(target, self._pieces(since, until, seconds))

    def columns(
        self,
        targets: Sequence[str],
        since: float,
        until: float,
        seconds: int,
        *,
        texts: Texts,
        paced: Callable[[Iterator[_Row]], Iterator[_Row]] = iter,
    ) -> dict[str, Columns]:
        """Return the same of some targets as `spans`, merged into columns of a multiple of 60.

        What is yielded by `paced` is counted; `texts` are those of earlier times.
        """
        found = {target: Columns(seconds, texts) for target in targets}
        names = {number: target for target in found for number in self._names(target)}
        rolled = self._rolled()
        for length, low, high in self._pieces(since, until, grade(seconds)):
            for start, number, counts in paced(self._rows([*names], low, high, length, rolled)):
                found[names[number]].add_encoded(start, length, counts)
        return found

    def _pieces(self, since: float, until: float, seconds: int) -> list[tuple[int, int, int]]:
        """Return which spans are to be read: their length, from when on, and until when."""
        end, pieces = math.inf, list[tuple[int, int, int]]()
        for length, begin in self._begins().items():
            if length >= seconds:
                low, high = _down(max(since, begin), length), _up(min(until, end), length)
                if low < high:
                    pieces.append((length, low, high))
                end = min(end, begin)
        return pieces

    def fewest(self, target: str, since: float) -> list[Span]:
        """Return as few spans of a target as have all that came since a moment, each once.

        Where shorter ones are gone, they have what came before in the same hour or day, too.
        """
        high = max((end for _, end in self._ranges()), default=0)
        low = next(
            _down(since, length)
            for length, begin in self._begins().items()
            if _down(since, length) >= begin
        )
        pieces = list[tuple[int, int, int]]()
        for length, end in (
            (MINUTE, min(_up(low, HOUR), high)),
            (HOUR, min(_up(low, DAY), _down(high, HOUR))),
            (DAY, _down(high, DAY)),
            (HOUR, _down(high, HOUR)),
            (MINUTE, high),
        ):
            pieces.append((length, low, end))
            low = max(low, end)
        return self._spans(target, pieces)

    def _ranges(self) -> list[tuple[int, int]]:
        """Return for each length that there is when the first span began and the last ended."""
        query = "SELECT min(start), max(start) + seconds FROM span WHERE seconds = ?"
        rows = (self._connection.execute(query, (each,)).fetchone() for each in _LENGTHS)
        return [(begin, end) for begin, end in rows if begin is not None]

    def _begins(self) -> dict[int, int]:
        """Return from when on there are spans of each length, short ones first."""
        levels = levels_of(self._connection)
        hours = _up(levels[HOUR].pruned, DAY)
        return {MINUTE: max(hours, _up(levels[MINUTE].pruned, HOUR)), HOUR: hours, DAY: 0}

    def _spans(self, target: str | None, pieces: Sequence[tuple[int, int, int]]) -> list[Span]:
        """Return the spans in pieces of time, each with their length, its begin and its end."""
        names = self._names(target)
        only = None if target is None else [*names]
        rolled = self._rolled()
        spans = (
            Span(names[number], start, seconds, counts)
            for seconds, low, high in pieces
            if low < high
            for (start, number), counts in self._added_up(
                only, low, high, seconds, rolled
            ).items()
        )
        return sorted(spans, key=lambda span: (span.start, span.target))

    def changes(
        self, target: str | None, since: float, until: float, *, with_last: bool = False
    ) -> list[Change]:
        """Return the changes in a time; without a target those of all.

        With the last one before that of each target, it is known what went on at its beginning.
        """
        name = None if target is None else in_database(target)
        values = {"name": name, "since": since, "until": until}
        query = _CHANGES.format(begin=_LAST if with_last else ":since")
        return [
            Change.from_json(json.loads(data))
            for (data,) in self._connection.execute(query, values)
        ]

    def _names(self, target: str | None) -> dict[int, str]:
        """Return the names of targets by their numbers; only that of one if there is one."""
        if target is None:
            return dict(self._connection.execute("SELECT id, name FROM target"))
        query = "SELECT id FROM target WHERE name = ?"
        rows = self._connection.execute(query, (in_database(target),))
        return {number: target for (number,) in rows}

    def _rolled(self) -> dict[int, int]:
        return {each: level.rolled for each, level in levels_of(self._connection).items()}

    def _added_up(
        self,
        only: list[int] | None,
        low: int,
        high: int,
        seconds: int,
        rolled: Mapping[int, int],
    ) -> dict[tuple[int, int], Counts]:
        """Return counts by start and target; `low` and `high` are multiples of `seconds`."""
        found = dict[tuple[int, int], Counts]()
        for start, number, data in self._rows(only, low, high, seconds, rolled):
            counts = decode(data)
            if (start, number) in found:
                found[start, number].add(counts)
            else:
                found[start, number] = counts
        return found

    def _rows(
        self,
        only: list[int] | None,
        low: int,
        high: int,
        seconds: int,
        rolled: Mapping[int, int],
    ) -> Iterator[_Row]:
        """Yield start, target and counts; of spans that were not rolled up yet, their parts."""
        values = {"seconds": seconds, "low": low, "high": high}
        query = _ALL
        if only is not None:
            query = _OF_SOME.format(targets=", ".join(map(str, only)))
        begin = max(low, rolled[seconds]) if seconds in FINER else high
        found = set[tuple[int, int]]()
        for start, number, counts in self._connection.execute(query, values):
            if start >= begin:
                found.add((start, number))
            yield start, number, counts
        if begin < high:
            finer = self._rows(only, begin, high, FINER[seconds], rolled)
            for start, number, counts in finer:
                whole = start - start % seconds
                if (whole, number) not in found:
                    yield whole, number, counts


def _down(moment: float, seconds: int) -> int:
    """Return the last multiple of `seconds` up to a moment, which may be infinitely early."""
    return math.floor(max(moment, 0) / seconds) * seconds


def _up(moment: float, seconds: int) -> int:
    """Return the first multiple of `seconds` from a moment on, which may be infinitely late."""
    return math.ceil(min(moment, _LATEST) / seconds) * seconds
