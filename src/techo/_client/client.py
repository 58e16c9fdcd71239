"""The client: round trips, whatever carries them."""

from __future__ import annotations

import contextlib
from typing import Final

import attrs
import trio

from techo._client.comparison import Comparison
from techo._client.datagram_socket import DatagramSocket
from techo._nursery import open_bare_nursery
from techo._packets import PacketStream, check_fits

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
    """A client of one echo server. `open_client` makes one and closes it."""

    _stream: trio.abc.Stream | DatagramSocket
    _in_use: bool = attrs.field(default=False, init=False)

    async def round_trip(self, data: bytes) -> RoundTrip:
        """Send `data` and wait until all of it has come back. Time is the caller's business.

        Use `trio.fail_after`: a lost datagram, or a server that owes a reply for ever, is
        waited for until cancelled.

        Over a connection the reply may come in any number of pieces. Sending and receiving go
        on at the same time, so no amount of data can make the two sides wait for each other.
        After any error but a ValueError, and after cancellation in mid-trip, the connection is
        out of step and closes. Over unixpacket a trip is one message.

        Over udp and unixgram a trip is one datagram and the one that matches it: late,
        mutilated and foreign ones are ignored. Errors and cancellation do not harm the client.
        Of two trips with the same bytes, the late reply to the first can pass for the second's.

        Raises:
            ValueError: too many bytes for one message, where a trip is one; names the limit.
            EchoMismatch: over a connection, something else came back.
            ShortReply: the server ended the connection before all had come back.
            OSError: over datagrams, such as `ConnectionRefusedError`: nobody listens there.
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed before, or by an earlier failure.
            trio.BusyResourceError: another task is in mid-trip on this client.
        """
        if self._in_use:
            raise trio.BusyResourceError("another task is in mid-trip on this client")
        self._in_use = True
        try:
            if isinstance(self._stream, DatagramSocket):
                comparison, seconds = await self._stream.exchange(data)
            else:
                comparison, seconds = await _exchange(self._stream, data)
        finally:
            self._in_use = False
        return RoundTrip(comparison.reply, seconds, comparison.stamps)


async def _exchange(stream: trio.abc.Stream, data: bytes) -> tuple[Comparison, float]:
    """Send over a connection and receive until all has come back; say how long that took."""
    comparison = Comparison(data)
    if isinstance(stream, PacketStream):
        check_fits(len(data), stream.largest)
    started = trio.current_time()
    try:
        async with open_bare_nursery() as nursery:
            if data:
                nursery.start_soon(_send, stream, data)
            else:
                await stream.send_all(data)  # tells whether we are closed
            while not comparison.complete:
                comparison.feed(await stream.receive_some(RECEIVE_SIZE))
            seconds = trio.current_time() - started
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return comparison, seconds


async def _send(stream: trio.abc.Stream, data: bytes) -> None:
    # A server that closes early breaks the sending too; the receiving side, which gets
    # whatever still came back, is the one that tells how much that was.
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(data)
