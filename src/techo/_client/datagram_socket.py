"""Datagrams: one out, and the wait for the one that matches it."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket as sockets
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import trio

from techo._client.comparison import Comparison, EchoError
from techo._packets import LARGEST_PACKET, check_fits, largest_message

_LARGEST_UDP: Final = {sockets.AF_INET: 65_507, sockets.AF_INET6: 65_527}
"""Bytes that fit into a UDP datagram: 65,535 less UDP's header and, in IPv4, less its own."""


@attrs.define(eq=False)
class DatagramSocket(trio.abc.AsyncResource):
    """A connected socket for datagrams: the kernel lets in what its one peer sends."""

    socket: trio.socket.SocketType
    """Public, as that of `trio.SocketStream` is."""
    _connect: Callable[[], None]
    largest: int
    """Bytes that fit into one datagram."""
    address: str | tuple[Any, ...]
    """Where datagrams go, as whoever connected it said."""
    # A Unix datagram can be as large as a packet.
    _buffer: bytearray = attrs.field(factory=lambda: bytearray(LARGEST_PACKET), init=False)

    @classmethod
    def connected(cls, sock: sockets.socket, address: str | tuple[Any, ...]) -> DatagramSocket:
        """Take over a new socket and connect it, which says nothing about anybody being there.

        Raises:
            OSError: there is no such address, or no way to it. The socket stays the caller's.
        """
        sock.setblocking(False)
        connect = functools.partial(sock.connect, address)
        connect()
        largest = _LARGEST_UDP.get(sock.family) or largest_message(sock)
        return cls(trio.socket.from_stdlib_socket(sock), connect, largest, address)

    async def exchange(self, data: bytes) -> tuple[Comparison, float]:
        """Send `data` and wait for the datagram that echoes it; say how long that took.

        Raises:
            ValueError: it does not fit into a datagram.
            OSError: it could not be sent, or, with ECONNREFUSED, nobody listens there.
            trio.ClosedResourceError: the socket was closed.
        """
        check_fits(len(data), self.largest)
        with self._closing_told():
            await self._forget_earlier()
            started = trio.current_time()
            await self._send(data)
            while True:
                size = await self.socket.recv_into(self._buffer)
                seconds = trio.current_time() - started
                comparison = Comparison(data)
                with contextlib.suppress(EchoError):
                    comparison.feed(self._buffer[:size])
                    if comparison.complete:
                        return comparison, seconds

    async def send(self, data: bytes) -> None:
        """Send one datagram.

        Raises:
            OSError: it could not be sent.
            trio.ClosedResourceError: the socket was closed.
        """
        with self._closing_told():
            await self._send(data)

    async def receive(self) -> bytes:
        """Receive one datagram, which may be empty.

        Raises:
            OSError: an earlier one could not be delivered, such as `ConnectionRefusedError`.
            trio.ClosedResourceError: the socket was closed.
        """
        with self._closing_told():
            size = await self.socket.recv_into(self._buffer)
        return bytes(self._buffer[:size])

    async def _forget_earlier(self) -> None:
        """Discard late replies, which could fill the queue, and errors about earlier sends."""
        while self.socket.is_readable():
            try:
                await self.socket.recv_into(self._buffer)
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise

    async def _send(self, data: bytes) -> None:
        try:
            await self.socket.send(data)
        except OSError:
            # Over UDP that was about an earlier datagram (udp(7)): errors arrive whenever they
            # like. A Unix socket lost its peer, but another may serve the same path by now.
            self._connect()
            await self.socket.send(data)

    @contextlib.contextmanager
    def _closing_told(self) -> Iterator[None]:
        """Raise what trio's streams raise when they are closed."""
        closed = "the client was closed"
        if self.socket.fileno() < 0:
            raise trio.ClosedResourceError(closed)
        try:
            yield
        except OSError as error:
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError(closed) from None
            raise

    def open_unconnected(self) -> tuple[sockets.socket, str | tuple[Any, ...], Any]:
        """Open another socket, which lets anybody in: to see who answers.

        Give it, where to send to, and the name that an answer should come from. Those differ
        where the server has bound another spelling of its path.
        """
        ours = sockets.socket(self.socket.family, sockets.SOCK_DGRAM)
        ours.setblocking(False)
        if ours.family == getattr(sockets, "AF_UNIX", None):
            ours.bind("")  # any free abstract name: who has none can't be answered
        return ours, self.address, self.socket.getpeername()

    async def aclose(self) -> None:
        """Close at once."""
        self.socket.close()
        await trio.lowlevel.checkpoint()
