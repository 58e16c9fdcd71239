"""Memory streams: connections inside one process, which wait, end and break as sockets' do."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from typing import Final, Self

import attrs
import trio

BUFFER_SIZE: Final = 2**16
"""Bytes that one direction holds until they are read. Small beside a socket's buffers, so that
a peer that sends without reading is noticed soon."""


@attrs.define(eq=False)
class _Pipe:
    """One direction: bytes on their way, and what the two ends have done to it."""

    capacity: int = attrs.field()
    data: bytearray = attrs.field(factory=bytearray)
    ended: bool = False
    """The sender has half-closed: nothing more comes."""
    unread: bool = False
    """The receiver has closed: this will not be read."""
    broken: bool = False
    """One of the ends was reset."""
    _waiting: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    @capacity.validator
    def _check_capacity(self, _: object, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"buffer_size must be at least 1 byte; got {capacity!r}")

    def changed(self) -> None:
        """Wake both ends, which look again."""
        self._waiting.unpark_all()

    async def wait(self) -> None:
        """Wait until there may be something new to see."""
        await self._waiting.park()

    def check_sendable(self) -> None:
        """Raise an error if the receiver is gone."""
        if self.broken:
            raise trio.BrokenResourceError("the connection was reset")
        if self.unread:
            raise trio.BrokenResourceError("the peer has closed the connection")

    def put(self, data: memoryview) -> int:
        """Take what there is room for; return how much that was."""
        taken = data[: self.capacity - len(self.data)]
        if taken:
            self.data += taken
            self.changed()
        return len(taken)

    def take(self, most: int | None) -> bytes:
        """Return what has arrived, at most so many bytes of it."""
        taken = bytes(self.data[:most])
        del self.data[:most]
        self.changed()
        return taken

    def wreck(self) -> None:
        """Drop what is in flight, and let nothing more through."""
        self.broken = True
        self.data.clear()
        self.changed()


@attrs.define(eq=False)
class _OneAtATime:
    """Keeps two tasks from doing the same to one stream."""

    doing: str
    _busy: bool = False

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self.doing} this stream")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection inside this process; `pair` creates the two of them.

    Each direction holds a bounded number of bytes: `send_all` waits while the peer does not
    read. Closing an end that holds unread input resets the connection, as it does over TCP.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._sending = _OneAtATime("sending on")
        self._receiving = _OneAtATime("receiving from")

    @classmethod
    def pair(cls, buffer_size: int = BUFFER_SIZE) -> tuple[Self, Self]:
        """Return the two ends of a new connection; each direction holds `buffer_size` bytes.

        Raises:
            ValueError: `buffer_size` is less than 1.
        """
        there, back = _Pipe(buffer_size), _Pipe(buffer_size)
        return cls(back, there), cls(there, back)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, waiting for the peer to make room.

        Cancellation may leave a part of it sent.

        Raises:
            trio.BrokenResourceError: the peer has closed or reset the connection.
            trio.ClosedResourceError: this end was closed, or `send_eof` was called.
        """
        with self._sending():
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            rest = memoryview(data).cast("B")
            while True:
                rest = rest[self._outgoing.put(rest) :]
                if not rest:
                    return
                await self._outgoing.wait()
                self._check_sendable()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for at least a byte.

        Raises:
            trio.BrokenResourceError: the peer has closed or reset the connection.
            trio.ClosedResourceError: this end was closed, or `send_eof` was called.
        """
        with self._sending():
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            while len(self._outgoing.data) >= self._outgoing.capacity:
                await self._outgoing.wait()
                self._check_sendable()

    def _check_sendable(self) -> None:
        self._check_open()
        if self._outgoing.ended:
            raise trio.ClosedResourceError("nothing can be sent after send_eof")
        self._outgoing.check_sendable()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("the stream was closed")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what there is, at most `max_bytes`; nothing means that the peer has finished.

        Cancellation loses no bytes.

        Raises:
            trio.BrokenResourceError: the peer has reset the connection.
            trio.ClosedResourceError: this end was closed.
            ValueError: `max_bytes` is less than 1.
        """
        with self._receiving():
            if max_bytes is not None and operator.index(max_bytes) < 1:
                raise ValueError(f"max_bytes must be at least 1; got {max_bytes!r}")
            await trio.lowlevel.checkpoint()
            while True:
                self._check_open()
                if self._incoming.broken:
                    raise trio.BrokenResourceError("the connection was reset")
                if self._incoming.data or self._incoming.ended:
                    return self._incoming.take(max_bytes)
                await self._incoming.wait()

    async def send_eof(self) -> None:
        """Report that nothing more will be sent; receiving goes on. Again is harmless.

        Cancellation means that it was not reported.

        Raises:
            trio.BrokenResourceError: the peer has reset the connection.
            trio.ClosedResourceError: this end was closed.
        """
        with self._sending():
            await trio.lowlevel.checkpoint()
            self._check_open()
            if self._outgoing.broken:
                raise trio.BrokenResourceError("the connection was reset")
            self._outgoing.ended = True
            self._outgoing.changed()

    def close(self) -> None:
        """Close at once; what was sent still arrives, unless there was input left to read."""
        if self._incoming.data:
            self.reset()
        elif not self._closed:
            self._closed = True
            self._outgoing.ended = self._incoming.unread = True
            self._outgoing.changed()
            self._incoming.changed()

    async def aclose(self) -> None:
        """Do what `close` does; also when cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Reset the connection, and close this end.

        What is in flight is lost in both directions. What the peer is doing and what it tries
        later raise `trio.BrokenResourceError`. After closing it does nothing.
        """
        if not self._closed:
            self._closed = True
            self._incoming.wreck()
            self._outgoing.wreck()
