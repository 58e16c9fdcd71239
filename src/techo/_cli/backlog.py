"""The backlog: lines that a thread writes, so that the program never waits for their reader.

A pipe that nobody reads is full some day, and writing to it waits for ever; a disk can be slow.
So a thread writes, and what comes beyond a limit is dropped and counted.
"""

from __future__ import annotations

import collections
import contextlib
import select
import threading
import time
from collections.abc import Callable
from os import write as write_to
from typing import Final, TextIO

import attrs

_MOST: Final = 2**22
"""Bytes that wait: the lines of a server whose connections all end at once."""

_PIECE: Final = 2**16
"""Bytes written at a time, which a pipe takes."""

PIECE_IN_A_CROWD: Final = 2**12
"""The same where others write to it, too: no more are sure to stay together (PIPE_BUF of
pipe(7))."""

_PATIENCE: Final = 1.0
"""Seconds without a byte written after which the end does not wait any longer."""


def _ignore(_error: OSError) -> None:
    pass


@attrs.define(eq=False)
class Backlog:
    """Writes lines to a stream in the order in which they came."""

    stream: TextIO
    report: Callable[[int], str]
    """Returns the line that says how many were dropped."""
    failed: Callable[[OSError], None] = _ignore
    """Is called, by the thread, when lines could not be written and are lost."""
    most: int = _MOST
    piece: int = _PIECE
    _lines: collections.deque[bytes] = attrs.field(factory=collections.deque)
    _bytes: int = 0
    """In lines that are not written yet, the one that is being written included."""
    _dropped: int = 0
    _progress: float = 0.0
    _changed: threading.Condition = attrs.field(factory=threading.Condition)
    _thread: threading.Thread | None = None
    _number: int | None = attrs.field(init=False)

    @_number.default
    def _find_number(self) -> int | None:
        """Return the descriptor, if it has one; what has none does not keep anybody waiting."""
        with contextlib.suppress(OSError, ValueError):
            return self.stream.fileno()
        return None

    def write(self, line: str) -> None:
        """Have a line written, or dropped if too many wait already."""
        if self._number is None:
            self.stream.write(line + "\n")
            return
        data = self._encoded(line)
        with self._changed:
            if self._bytes + len(data) > self.most:
                self._dropped += 1
                return
            self._tell_dropped()
            self._append(data)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
                self._thread.start()

    def _encoded(self, line: str) -> bytes:
        return (line + "\n").encode(self.stream.encoding or "utf-8", "backslashreplace")

    def _append(self, data: bytes) -> None:
        if not self._bytes:
            self._progress = time.monotonic()
        if not self._lines:
            self._changed.notify()
        self._lines.append(data)
        self._bytes += len(data)

    def _tell_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._append(self._encoded(self.report(count)))

    def _run(self) -> None:
        """Write until the process ends."""
        assert self._number is not None  # noqa: S101  -- without, there is no thread
        while True:
            with self._changed:
                while not self._lines:
                    self._changed.wait()
                piece = bytearray()
                while self._lines and len(piece) + len(self._lines[0]) <= self.piece:
                    piece += self._lines.popleft()
                piece = piece or bytearray(self._lines.popleft())
            lost = self._write_all(self._number, piece)
            with self._changed:
                self._bytes -= len(piece)
                if lost:
                    self._dropped += lost
                elif not self._lines:
                    self._tell_dropped()
                self._changed.notify_all()

    def _write_all(self, number: int, piece: bytearray) -> int:
        """Write it all, however long that takes; return how many lines are lost."""
        rest = memoryview(piece)
        while rest:
            try:
                rest = rest[write_to(number, rest) :]
            except BlockingIOError:
                select.select([], [number], [])
            except OSError as error:
                self.failed(error)
                return bytes(rest).count(b"\n")
            self._progress = time.monotonic()
        return 0

    def close(self) -> None:
        """Wait until all is written, as long as something is."""
        with self._changed:
            while self._bytes and ((rest := self._progress + _PATIENCE - time.monotonic()) > 0):
                self._changed.wait(rest)
