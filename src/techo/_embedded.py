"""The edge where an embedder's own streams come in, and become transports."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Coroutine
from typing import Any, Final

import trio

from techo._tls.records import ENDS
from techo._transport.streams import StreamTransport
from techo._transport.transport import RECEIVE_SIZE, Transport

_PAUSE: Final = 0.01
"""Seconds without anything from a TLS peer after which it gets our close_notify: trio's
SSLStream sends none while there is something left to decrypt."""


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

    def receive(
        self, most: int = RECEIVE_SIZE
    ) -> Coroutine[Any, Any, bytes | bytearray | None]:
        """Receive; after `send_eof`, what still comes is not decrypted any more."""
        return self._below.receive(most) if self._unwrapped else super().receive(most)

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
