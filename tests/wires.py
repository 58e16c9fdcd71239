"""Connections for the transports' tests, whose bytes arrive in the pieces that a test wants."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import trio

from techo._transport.tls import TlsTransport
from techo._transport.transport import RECEIVE_SIZE, Transport

Connect: TypeAlias = Callable[[], tuple[trio.socket.SocketType, trio.socket.SocketType]]
"""Returns two sockets of a stream that are connected to each other."""


class Wire(Transport):
    """One end of a connection whose bytes arrive in the pieces that a test wants."""

    def __init__(self) -> None:
        self.peer = self
        self.sends = 0
        self.cut: Callable[[bytes], list[bytes]] = lambda data: [data]
        self.holds_after = math.inf
        """How many sends are delivered before the rest waits for `release`."""
        self.held = b""
        self.closed = False
        self._inbox, self._arrived = trio.open_memory_channel[bytes](math.inf)

    @classmethod
    def pair(cls) -> tuple[Wire, Wire]:
        """Return both ends of a new one."""
        ours, theirs = cls(), cls()
        ours.peer, theirs.peer = theirs, ours
        return ours, theirs

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or hold what is sent."""
        await trio.lowlevel.checkpoint()
        self.sends += 1
        self.held += data
        if self.sends <= self.holds_after:
            self.release()

    def release(self) -> None:
        """Deliver what is held, as if it had been sent at once."""
        held, self.held = self.held, b""
        for piece in filter(None, self.cut(held)):
            self.peer._inbox.send_nowait(piece)

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | None:  # noqa: ARG002  -- the interface's
        """Receive a piece."""
        return await self._arrived.receive() or None

    async def send_eof(self) -> None:
        """End it from this side."""
        await trio.lowlevel.checkpoint()
        self.peer._inbox.send_nowait(b"")

    async def aclose(self) -> None:
        """Close."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close."""
        self.closed = True
        self.peer._inbox.send_nowait(b"")


Secure: TypeAlias = Callable[[Transport, Transport], tuple[TlsTransport, TlsTransport]]
"""Puts a client's and a server's TLS over two ends of a connection."""
