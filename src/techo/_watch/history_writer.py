"""Writing a history: minutes as they come, which become hours and days, and changes.

Soon after an hour is over, its minutes are added up to a row; so are the hours of a day. Finer
rows go when they are old. What comes for a time whose hour or day is a row already, because a
clock was set back, is added there as well. So each row is always the exact sum of what came.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final, Self

import attrs

from techo._watch.counts import DAY, HOUR, MINUTE, Counts, Span
from techo._watch.events import Change
from techo._watch.history_encoding import decode, encode
from techo._watch.history_file import FINER, Writable
from techo._watch.history_reader import Level, in_database, levels_of

_GRACE: Final = 300
"""Seconds after an hour during which a minute of it may still come without extra work."""

_PIECE: Final = 20
"""Targets that are rolled up in one transaction, so that what comes meanwhile waits for
less than a tenth of a second."""

_STARTS: Final = 5
"""Moments whose rows one call of `tidy` deletes at the most. A clock that is wrong for a while,
and far ahead, costs only some of the minutes."""


@attrs.frozen
class Keep:
    """How many seconds spans of each length are kept; longer ones have them in them after."""

    minutes: float = 7 * DAY
    hours: float = 100 * DAY
    days: float = math.inf
    changes: float = math.inf


FOR_A_DAY: Final = Keep(DAY, 2 * DAY, 2 * DAY, 2 * DAY)
"""What a private history keeps: enough for a page that shows a day."""


@attrs.frozen
class NewSpan:
    """A minute to be written, encoded so that it takes little memory while it waits."""

    target: str
    start: int
    counts: bytes

    @classmethod
    def of(cls, span: Span) -> Self:
        """Return what is to be written of a span."""
        return cls(span.target, span.start, encode(span.counts))


@attrs.frozen
class NewChange:
    """A change to be written."""

    target: str
    at: float
    data: str
    """JSON."""

    @classmethod
    def of(cls, change: Change) -> Self:
        """Return what is to be written of a change."""
        return cls(change.target, change.at, json.dumps(change.to_json()))


@attrs.define(eq=False)
class Writer:
    """Writes through a connection, in the thread that calls."""

    file: Writable
    keep: Keep
    _numbers: dict[str, int] = attrs.field(factory=dict)
    """Of targets, as they are in the file."""

    @property
    def connection(self) -> sqlite3.Connection:
        """What writes, and may be read through, too."""
        return self.file.connection

    def write(self, rows: Sequence[NewSpan | NewChange]) -> None:
        """Write rows, all or none of them.

        Raises:
            sqlite3.Error: the disk is full, for example.
        """
        with self._transaction():
            rolled = {each: level.rolled for each, level in levels_of(self.connection).items()}
            for row in rows:
                number = self._number_of(row.target)
                if isinstance(row, NewChange):
                    query = "INSERT INTO change (target, at, data) VALUES (?, ?, ?)"
                    self.connection.execute(query, (number, row.at, row.data))
                    continue
                self._add(MINUTE, row.start, number, row.counts, anew=True)
                for seconds in FINER:
                    begin = row.start - row.start % seconds
                    anew = begin < rolled[seconds]
                    self._add(seconds, begin, number, row.counts, anew=anew)

    def tidy(self, now: float) -> bool:
        """Roll up and delete a piece of what is due at `now`, in Unix time.

        Return whether more is to be rolled up.

        Raises:
            sqlite3.Error: the disk is full, for example.
        """
        with self._transaction():
            if self._roll_up(HOUR, now, now - _GRACE):
                return True
            if self._roll_up(DAY, now, self._level(HOUR).rolled):
                return True
            self._prune(MINUTE, min(now - self.keep.minutes, self._level(HOUR).rolled))
            self._prune(HOUR, min(now - self.keep.hours, self._level(DAY).rolled))
            self._prune(DAY, now - self.keep.days)
            self.connection.execute(
                "DELETE FROM change WHERE at < ?", (now - self.keep.changes,)
            )
        return False

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _add(self, seconds: int, start: int, number: int, counts: bytes, *, anew: bool) -> None:
        """Add counts to a row, or to none if there is none and it is not to be made anew."""
        place = seconds, start, number
        query = "SELECT counts FROM span WHERE seconds = ? AND start = ? AND target = ?"
        found = self.connection.execute(query, place).fetchone()
        if found is None and not anew:
            return
        if found is not None:
            counts = encode(_sum([*found, counts]))
        query = (
            "INSERT OR REPLACE INTO span (seconds, start, target, counts) VALUES (?, ?, ?, ?)"
        )
        self.connection.execute(query, (*place, counts))

    def _roll_up(self, seconds: int, now: float, until: float) -> bool:
        """Make rows of finer ones, for some targets, in the first time that lacks such rows."""
        finer = FINER[seconds]
        rolled = self._level(seconds).rolled
        if rolled > now:  # a clock was ahead; of what is to come all finer rows will be there
            rolled = math.floor(now / seconds) * seconds
            self._set(seconds, "rolled", rolled)
        query = "SELECT min(start) FROM span WHERE seconds = ? AND start >= ?"
        (first,) = self.connection.execute(query, (finer, rolled)).fetchone()
        if first is None or (begin := first - first % seconds) + seconds > until:
            return False
        values = {"seconds": seconds, "finer": finer, "low": begin, "high": begin + seconds}
        numbers = self.connection.execute(
            f"{_WITHOUT} LIMIT {_PIECE}",
            values,
        ).fetchall()
        for (number,) in numbers:
            rows = self.connection.execute(_PARTS, values | {"target": number})
            total = _sum([counts for (counts,) in rows])
            query = "INSERT INTO span (seconds, start, target, counts) VALUES (?, ?, ?, ?)"
            self.connection.execute(query, (seconds, begin, number, encode(total)))
        if len(numbers) < _PIECE:
            self._set(seconds, "rolled", begin + seconds)
        return True

    def _prune(self, seconds: int, limit: float) -> None:
        """Delete the oldest rows from before a moment, which are part of longer ones."""
        query = (
            "SELECT DISTINCT start FROM span WHERE seconds = ? AND start < ? "
            "ORDER BY start LIMIT ?"
        )
        found = self.connection.execute(query, (seconds, limit, _STARTS)).fetchall()
        if found:
            (last,) = found[-1]
            query = "DELETE FROM span WHERE seconds = ? AND start <= ?"
            self.connection.execute(query, (seconds, last))
            pruned = max(self._level(seconds).pruned, last + seconds)
            self._set(seconds, "pruned", pruned)

    def _level(self, seconds: int) -> Level:
        return levels_of(self.connection)[seconds]

    def _set(self, seconds: int, name: str, value: int) -> None:
        query = f"UPDATE level SET {name} = ? WHERE seconds = ?"  # noqa: S608  -- our own name
        self.connection.execute(query, (value, seconds))

    def _number_of(self, target: str) -> int:
        """Return the number of a target, which is a new one at first."""
        if target not in self._numbers:
            name = (in_database(target),)
            self.connection.execute("INSERT OR IGNORE INTO target (name) VALUES (?)", name)
            query = "SELECT id FROM target WHERE name = ?"
            (self._numbers[target],) = self.connection.execute(query, name).fetchone()
        return self._numbers[target]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            self._numbers.clear()  # some of them may be no more
            if self.connection.in_transaction:  # which a full disk may have ended already
                self.connection.execute("ROLLBACK")
            raise


_WITHOUT: Final = """
SELECT DISTINCT target FROM span AS part
WHERE seconds = :finer AND start >= :low AND start < :high AND NOT EXISTS (
    SELECT 1 FROM span WHERE seconds = :seconds AND start = :low AND target = part.target
)
"""
"""The targets that have parts of a span, and not the whole."""

_PARTS: Final = """
WITH RECURSIVE starts (start) AS (
    SELECT :low UNION ALL SELECT start + :finer FROM starts WHERE start + :finer < :high
)
SELECT counts FROM starts CROSS JOIN span
ON seconds = :finer AND span.start = starts.start AND target = :target
"""


def _sum(rows: Sequence[bytes]) -> Counts:
    """Return the sum of counts; a damaged row has none, so that it keeps no other from disk."""
    total = Counts()
    for row in rows:
        with contextlib.suppress(ValueError):
            total.add(decode(row))
    return total
