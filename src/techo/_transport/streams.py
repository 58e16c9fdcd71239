"""Streams as transports: sockets, memory, and any other trio stream."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import trio

from techo._kernel.ends import reset_when_closed
from techo._memory.stream import MemoryStream
from techo._transport.transport import RECEIVE_SIZE, Transport


class StreamTransport(Transport):
    """A connection of bytes over any `trio.abc.Stream`, which it owns from now on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.half_closeable = isinstance(stream, trio.abc.HalfCloseableStream)
        if isinstance(stream, trio.SocketStream):
            self.socket = stream.socket
            self.pumpable = True

    def send(self, data: bytes | bytearray | memoryview) -> Coroutine[Any, Any, None]:
        return self._stream.send_all(data)  # no coroutine around it, for every message

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        return await self._stream.receive_some(most) or None

    async def send_eof(self) -> None:
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def reset(self) -> None:
        if isinstance(self._stream, MemoryStream):
            self._stream.reset()
        elif self.socket is not None and self.socket.fileno() >= 0:
            reset_when_closed(self.socket)
        await super().reset()
