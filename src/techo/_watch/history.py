"""A history: what was found out minute by minute, and every change, kept off the loop.

What comes waits in a queue, and a task has it written in a thread, a second's worth in one
transaction. If that cannot be done, watching goes on: rows wait until there is room again.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, TypeVar

import attrs
import trio

from techo._log import warning
from techo._nursery import open_bare_nursery
from techo._printable import quoted
from techo._watch.columns import Past, Texts
from techo._watch.counts import Span
from techo._watch.events import Change
from techo._watch.history_file import HistoryError, open_to_write
from techo._watch.history_reader import Reader
from techo._watch.history_writer import FOR_A_DAY, Keep, NewChange, NewSpan, Writer
from techo._watch.turns import in_pieces

MOST_WAITING: Final = 2**16
"""Rows that wait at the most: an hour of 1,000 targets, in 20 MiB."""

_GATHER: Final = 1.0
"""Seconds for which rows are gathered before they are written."""

_BATCH: Final = 1000
"""Rows that are written in one transaction."""

_RETRY: Final = 5.0
"""Seconds after which writing is tried again."""

_TIDY: Final = 60.0
"""Seconds from one look at what is old to the next."""

_TIDY_AGAIN: Final = 3600.0
"""The same after it has failed: rows can wait for that longer than a log bears the reason."""

_T = TypeVar("_T")


@attrs.define(eq=False)
class History:
    """Takes spans and changes, and has those that it took; `open_history` makes it."""

    keep: Keep
    """How long it keeps spans of each length."""
    _name: str
    _writer: Writer
    _clock: Callable[[], float]
    _most_waiting: int
    _limiter: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1))
    """One thread at a time: what it reads and writes with is one connection."""
    _texts: Texts = attrs.field(factory=Texts)
    """Of spans that were read as columns."""
    _queue: collections.deque[NewSpan | NewChange] = attrs.field(factory=collections.deque)
    _came: trio.Event = attrs.field(factory=trio.Event)
    """Something waits, or this is to end."""
    _hurry: trio.Event = attrs.field(factory=trio.Event)
    """Somebody waits for what waits."""
    _ending: bool = False
    _taken: trio.Event = attrs.field(factory=trio.Event)
    """Writing was tried, and is over."""
    _failing: bool = False
    _dropped: int = 0
    """Rows that had no room, since writing failed or could not follow."""

    def put_span(self, span: Span) -> None:
        """Have a minute written soon; it never waits and never fails.

        If there is one of the same target and time, it is added to that.
        """
        self._put(NewSpan.of(span))

    def put_change(self, change: Change) -> None:
        """Have a change written soon; it never waits and never fails."""
        self._put(NewChange.of(change))

    async def spans(
        self, target: str | None, since: float, until: float, seconds: int
    ) -> list[Span]:
        """Return spans of 60, 3600 or 86400 seconds that have some of a time in them.

        They are longer where shorter ones are gone, and longer ones also have what is not over
        yet. Without a target they are those of all, sorted by start and name. What was put is
        there within two seconds. Cancelled, it waits until its thread has ended.

        Raises:
            HistoryError: it could not be read.
        """
        return await self._read(lambda reader: reader.spans(target, since, until, seconds))

    async def pasts(
        self, begins: Mapping[str, float], since: float, until: float, seconds: int
    ) -> dict[str, Past]:
        """Return columns of so many seconds of some targets, and their changes.

        The changes of each target are those from its moment in `begins` on.

        Raises:
            HistoryError: it could not be read.
        """

        def read(reader: Reader) -> dict[str, Past]:
            columns = reader.columns(
                [*begins], since, until, seconds, texts=self._texts, paced=in_pieces
            )
            return {
                target: Past(columns[target], reader.changes(target, begin, math.inf))
                for target, begin in in_pieces(begins.items())
            }

        return await self._read(read)

    async def changes(self, target: str | None, since: float, until: float) -> list[Change]:
        """Return the changes in a time, sorted by it; without a target those of all.

        Raises:
            HistoryError: it could not be read.
        """
        return await self._read(lambda reader: reader.changes(target, since, until))

    async def extent(self) -> int | None:
        """Return when the first span began, in Unix time; None if there is none.

        Raises:
            HistoryError: it could not be read.
        """
        return await self._read(Reader.extent)

    async def flush(self) -> None:
        """Wait until what was put before is written, or writing was tried and has failed."""
        await trio.lowlevel.checkpoint()
        if self._queue:
            taken = self._taken
            self._hurry.set()
            self._came.set()  # else what is being written now would have no next attempt soon
            await taken.wait()

    def _put(self, row: NewSpan | NewChange) -> None:
        if len(self._queue) < self._most_waiting:
            self._queue.append(row)
            self._came.set()
            return
        if not self._dropped:
            waiting = f"{len(self._queue):,} rows"
            warning("%s: %s wait to be written; others are dropped", self._name, waiting)
        self._dropped += 1

    async def _read(self, read: Callable[[Reader], _T]) -> _T:
        reader = Reader(self._writer.connection)
        try:
            return await self._in_thread(lambda: read(reader))
        except (sqlite3.Error, ValueError, KeyError) as error:
            raise HistoryError(f"cannot read {self._name}: {error}") from error

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def keep_writing(self) -> None:
        """Write what comes until `end`, and then what is left; no cancellation stops it."""
        tidy_at = trio.current_time() + _GATHER
        with trio.CancelScope(shield=True):
            while not self._ending:
                with trio.move_on_at(tidy_at):
                    await self._came.wait()
                with trio.move_on_after(_RETRY if self._failing else _GATHER):
                    await self._hurry.wait()
                await self._write()
                if trio.current_time() >= tidy_at and not self._failing:
                    tidy_at = trio.current_time() + await self._tidy()
            await self._write()  # what came while old rows were looked at
        if lost := len(self._queue) + self._dropped:
            were = "row was" if lost == 1 else "rows were"
            warning("%s: %s not written in the end", self._name, f"{lost:,} {were}")

    def end(self) -> None:
        """Let `keep_writing` end soon."""
        self._ending = True
        self._hurry.set()
        self._came.set()

    async def _write(self) -> None:
        taken, self._taken = self._taken, trio.Event()
        self._came, self._hurry = trio.Event(), trio.Event()
        while self._queue:
            batch = [*itertools.islice(self._queue, _BATCH)]
            if not await self._try(functools.partial(self._writer.write, batch)):
                self._came.set()
                break
            for _ in batch:
                self._queue.popleft()
            self._recover()
        taken.set()

    async def _tidy(self) -> float:
        """Let a piece of what is old become longer spans; return when to go on, in seconds."""
        now, more = self._clock(), list[bool]()
        if not await self._try(lambda: more.append(self._writer.tidy(now))):
            return _TIDY_AGAIN
        return _GATHER if any(more) else _TIDY

    async def _try(self, work: Callable[[], None]) -> bool:
        """Return whether some work on the file succeeded; report the first of failures."""
        try:
            await self._in_thread(work)
        except sqlite3.Error as error:
            if not self._failing:
                text = "%s cannot be written: %s; watching goes on, and what it finds waits"
                warning(text, self._name, error)
            self._failing = True
            return False
        return True

    def _recover(self) -> None:
        if self._failing or self._dropped:
            dropped = f"; {self._dropped:,} rows were dropped" * bool(self._dropped)
            warning("%s is written again%s", self._name, dropped)
        self._failing, self._dropped = False, 0


@contextlib.asynccontextmanager
async def open_history(
    path: str | None,
    *,
    keep: Keep | None = None,
    clock: Callable[[], float] = time.time,
    most_waiting: int = MOST_WAITING,
) -> AsyncIterator[History]:
    """Open a history for a block; without a path it is private, keeps a day and is gone then.

    What was put is written when the block ends, cancelled or not.

    Raises:
        HistoryError: the file is no history, or cannot be written, or has a writer already.
    """
    if keep is None:
        keep = FOR_A_DAY if path is None else Keep()
    file = await trio.to_thread.run_sync(open_to_write, path)
    name = "the history" if path is None else f"the history {quoted(path)}"
    history = History(keep, name, Writer(file, keep), clock, most_waiting)
    try:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(history.keep_writing)
            try:
                yield history
            finally:
                history.end()
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(file.close)
