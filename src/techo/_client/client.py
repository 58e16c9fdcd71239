"""The client: one connection, and round trips over it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import attrs
import trio

from techo._client.comparison import Comparison
from techo._nursery import open_bare_nursery
from techo.endpoint import EVERY_INTERFACE, Endpoint

RECEIVE_SIZE: Final = 2**16
"""Bytes; what trio's own streams receive at a time."""


@attrs.frozen
class RoundTrip:
    """One message there and back, every byte compared."""

    reply: bytes
    """What came back, as it came: stamps included."""
    seconds: float
    """From the start of sending to the last byte received, in the run's clock."""
    stamps: tuple[str, ...]
    """The stamps found in it, in ctime's words, without brackets."""


@attrs.define(eq=False)
class EchoClient:
    """A connection to an echo server. `open_client` makes one and closes it."""

    _stream: trio.abc.HalfCloseableStream
    _in_use: bool = attrs.field(default=False, init=False)

    async def round_trip(self, data: bytes) -> RoundTrip:
        """Send `data` and wait until all of it has come back, in any number of pieces.

        Sending and receiving go on at the same time, so no amount of data can make the two
        sides wait for each other. Time is the caller's: use `trio.fail_after`. After any
        error, and after cancellation in mid-trip, the connection is out of step and closes.

        Raises:
            EchoMismatch: something else came back.
            ShortReply: the server ended the connection before all had come back.
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed before, or by an earlier failure.
            trio.BusyResourceError: another task is in mid-trip on this client.
        """
        if self._in_use:
            raise trio.BusyResourceError("another task is in mid-trip on this client")
        comparison = Comparison(data)
        self._in_use = True
        started = trio.current_time()
        try:
            async with open_bare_nursery() as nursery:
                if data:
                    nursery.start_soon(self._send, data)
                else:
                    await self._stream.send_all(data)  # tells whether we are closed
                while not comparison.complete:
                    comparison.feed(await self._stream.receive_some(RECEIVE_SIZE))
                seconds = trio.current_time() - started
        except BaseException:
            await trio.aclose_forcefully(self._stream)
            raise
        finally:
            self._in_use = False
        return RoundTrip(comparison.reply, seconds, comparison.stamps)

    async def _send(self, data: bytes) -> None:
        # A server that closes early breaks the sending too; the receiving side, which gets
        # whatever still came back, is the one that tells how much that was.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_all(data)


async def connect(endpoint: Endpoint | str) -> trio.SocketStream:
    """Connect to `endpoint`, trying the addresses of a name as RFC 8305 does.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to.
        OSError: the name is unknown or nobody answers.
    """
    if not isinstance(endpoint, Endpoint):
        endpoint = Endpoint.parse(endpoint)
    if endpoint.host == EVERY_INTERFACE or endpoint.port == 0:
        raise ValueError(
            f"can't connect to {endpoint}: * and port 0 are for servers; name host and port"
        )
    return await trio.open_tcp_stream(endpoint.host, endpoint.port)


@contextlib.asynccontextmanager
async def open_client(endpoint: Endpoint | str) -> AsyncIterator[EchoClient]:
    """Connect to an echo server for the length of a block.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to.
        OSError: the name is unknown or nobody answers.
    """
    async with await connect(endpoint) as stream:
        yield EchoClient(stream)
