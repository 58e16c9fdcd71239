"""Memory listeners: where connections inside one process are accepted."""

from __future__ import annotations

import collections
import errno
from typing import Final

import trio

from techo._memory.stream import BUFFER_SIZE, MemoryStream

BACKLOG: Final = 4096
"""Connections that wait to be accepted: what Linux allows a socket (net.core.somaxconn)."""


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Accepts connections from inside this process, for `trio.serve_listeners`.

    Raises:
        ValueError: `backlog` or `buffer_size` is less than 1.
    """

    def __init__(self, backlog: int = BACKLOG, *, buffer_size: int = BUFFER_SIZE) -> None:
        if backlog < 1:
            raise ValueError(f"backlog must be at least 1 connection; got {backlog!r}")
        MemoryStream.pair(buffer_size)  # refuses here what every `connect` would refuse
        self._backlog = backlog
        self._buffer_size = buffer_size
        self._queue: collections.deque[MemoryStream] = collections.deque()
        self._closed = False
        self._waiting = trio.lowlevel.ParkingLot()

    async def connect(self) -> MemoryStream:
        """Connect, and return the client's end, before it is accepted, as over sockets.

        Waits while the backlog is full. Cancellation means that nothing was connected.

        Raises:
            ConnectionRefusedError: the listener was closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._closed and len(self._queue) >= self._backlog:
            await self._waiting.park()
        if self._closed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "the listener was closed")
        ours, theirs = MemoryStream.pair(self._buffer_size)
        self._queue.append(theirs)
        self._waiting.unpark_all()
        return ours

    async def accept(self) -> MemoryStream:
        """Wait for a connection, and return the server's end; cancellation loses none.

        Raises:
            trio.ClosedResourceError: the listener was closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._closed and not self._queue:
            await self._waiting.park()
        if self._closed:
            raise trio.ClosedResourceError("the listener was closed")
        self._waiting.unpark_all()
        return self._queue.popleft()

    async def aclose(self) -> None:
        """Close at once, also when cancelled; connections not accepted yet are reset."""
        self._closed = True
        while self._queue:
            self._queue.popleft().reset()
        self._waiting.unpark_all()
        await trio.lowlevel.checkpoint()
