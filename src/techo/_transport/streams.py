"""Streams as transports: sockets, memory, and whatever trio stream an embedder brings."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import Any, Final

import trio

from techo._memory.stream import MemoryStream
from techo._transport.tls import ENDS
from techo._transport.transport import RECEIVE_SIZE, Transport

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Closing such a socket resets the connection and drops what was not sent yet (socket(7))."""

_PAUSE: Final = 0.01
"""Seconds without anything from a TLS peer after which it gets our close_notify: trio's
SSLStream sends none while there is something left to decrypt."""


class StreamTransport(Transport):
    """A connection of bytes over any `trio.abc.Stream`, which it owns from now on."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.half_closeable = isinstance(stream, trio.abc.HalfCloseableStream)
        if isinstance(stream, trio.SocketStream):
            self.socket = stream.socket
            self.direct = True

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

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
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        await super().reset()


class TrioTlsTransport(StreamTransport):
    """An embedder's `trio.SSLStream`, of which only the public interface is used."""

    secure = True
    _stream: trio.SSLStream[Any]

    def __init__(self, stream: trio.SSLStream[Any]) -> None:
        super().__init__(stream)
        self._below = transport_of(stream.transport_stream)
        self.socket = self._below.socket
        self.handshake_done = False
        self._unwrapped = False

    async def handshake(self) -> None:
        try:
            await self._stream.do_handshake()
        except trio.BrokenResourceError as error:
            below = error.__cause__
            if isinstance(below, ssl.SSLError) and not isinstance(below, ENDS):
                raise below from None
            raise
        self.handshake_done = True

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        """Receive; after `send_eof`, what still comes is not decrypted any more."""
        if self._unwrapped:
            return await self._below.receive(most)
        return await super().receive(most)

    async def send_eof(self) -> None:
        """Exchange close_notify and half-close; what the peer sends until then is lost."""
        if self._unwrapped:
            await trio.lowlevel.checkpoint()
            return
        with contextlib.suppress(
            trio.BrokenResourceError
        ):  # which is seen below, if it matters
            with trio.CancelScope(deadline=trio.current_time() + _PAUSE) as pause:
                while await self._stream.receive_some():
                    pause.deadline = trio.current_time() + _PAUSE
            await self._stream.unwrap()
        self._unwrapped = True
        await self._below.send_eof()

    async def aclose(self) -> None:
        if self._unwrapped or not self.handshake_done:
            await self._below.aclose()
        else:
            await self._stream.aclose()

    async def reset(self) -> None:
        await self._below.reset()


def transport_of(stream: trio.abc.Stream | Transport) -> Transport:
    """Return `stream` as a transport, which a transport is already."""
    if isinstance(stream, Transport):
        return stream
    if isinstance(stream, trio.SSLStream):
        return TrioTlsTransport(stream)
    return StreamTransport(stream)
