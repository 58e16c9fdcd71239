"""The client: round trips, whatever carries them."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

import attrs
import trio

from techo._client.comparison import Comparison, EchoError
from techo._embedded import transport_of
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._nursery import open_bare_nursery
from techo._transport.connect import connect
from techo._transport.transport import Transport
from techo.endpoint import Endpoint


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
    """A client of one echo server. `open_client` opens one and closes it.

    To use a connection of your own, pass its `trio.abc.Stream`, which stays yours to close.
    """

    _transport: Transport = attrs.field(converter=transport_of)
    _in_use: bool = attrs.field(default=False, init=False)

    async def round_trip(self, data: bytes) -> RoundTrip:
        """Send `data` and wait until all of it has come back.

        Limit the time with `trio.fail_after`: a reply that never comes, such as to a lost
        datagram, is waited for until cancelled.

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
            OSError: over datagrams, such as `ConnectionRefusedError`: no server listens there.
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed before, or by an earlier failure.
            trio.BusyResourceError: another task is in mid-trip on this client.
        """
        if self._in_use:
            raise trio.BusyResourceError("another task is in mid-trip on this client")
        self._in_use = True
        try:
            if (largest := self._transport.largest) is not None:
                check_fits(len(data), largest)
            exchange = _exchange_datagrams if self._transport.connectionless else _exchange
            comparison, seconds = await exchange(self._transport, data)
        finally:
            self._in_use = False
        return RoundTrip(comparison.reply, seconds, comparison.stamps)


async def _exchange(transport: Transport, data: bytes) -> tuple[Comparison, float]:
    """Send over a connection and receive until all has come back; return how long it took."""
    comparison = Comparison(data)
    started = trio.current_time()
    try:
        async with open_bare_nursery() as nursery:
            if data:
                nursery.start_soon(_send, transport, data)
            else:
                await transport.send(data)  # shows whether we are closed
            while not comparison.complete:
                comparison.feed(await transport.receive() or b"")
            seconds = trio.current_time() - started
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise
    return comparison, seconds


async def _send(transport: Transport, data: bytes) -> None:
    # A server that closes early breaks the sending too; the receiving side, which gets
    # whatever still came back, reports how much that was.
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await transport.send(data)


async def _exchange_datagrams(transport: Transport, data: bytes) -> tuple[Comparison, float]:
    """Send a datagram and wait for the one that echoes it; return how long it took."""
    await _discard_earlier(transport)
    started = trio.current_time()
    await transport.send(data)
    while True:
        comparison = Comparison(data)
        with contextlib.suppress(EchoError, trio.BrokenResourceError):  # wrong, or too long
            received = await transport.receive() or b""
            seconds = trio.current_time() - started
            comparison.feed(received)
            if comparison.complete:
                return comparison, seconds


async def _discard_earlier(transport: Transport) -> None:
    """Discard late replies, which could fill the queue, and errors about earlier sends."""
    sock = transport.socket
    while sock is not None and sock.fileno() >= 0 and sock.is_readable():
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            await transport.receive()


@contextlib.asynccontextmanager
async def open_client(
    endpoint: Endpoint | str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
) -> AsyncIterator[EchoClient]:
    """Connect to an echo server of any kind for the length of a block.

    For tls endpoints, `tls` decides which certificates are accepted (by default, those that
    the system trusts) and `server_name` which name they must have (by default the host's).
    `options` are those of the socket, and of its packets.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to, or `tls` or
            `server_name` are given for one that is not tls, or `options` do not fit it.
        OSError: the name is unknown, no server answers or, as `ssl.SSLError`, TLS fails. Over
            udp, only `EchoClient.round_trip` shows whether a server is there.
    """
    connected = await connect(endpoint, tls=tls, server_name=server_name, options=options)
    async with connected.transport as transport:
        yield EchoClient(transport)


def check_fits(size: int, largest: int) -> None:
    """Refuse a message that its transport cannot carry.

    Raises:
        ValueError: naming its size and the limit.
    """
    if size > largest:
        raise ValueError(
            f"{size} bytes do not fit into one message: {largest} is the most here"
        )
