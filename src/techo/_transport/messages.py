"""Messages as transports: packets over a connection, and datagrams without one."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket as sockets
from collections.abc import Iterator
from typing import Final

import trio

from techo._addresses import Address, text_of
from techo._transport.transport import RECEIVE_SIZE, Transport

LARGEST_PACKET: Final = 2**18
"""Bytes in a message that is received whole: more than Linux lets a peer send (some 208 KiB)
that has not changed its own buffers."""

_OVERHEAD: Final = 32
"""Bytes of a Unix socket's send buffer that no message can use, on Linux (measured, and in the
kernel's unix_dgram_sendmsg)."""

_LARGEST_UDP: Final = {sockets.AF_INET: 65_507, sockets.AF_INET6: 65_527}
"""Bytes that fit into a UDP datagram: 65,535 less UDP's header and, in IPv4, less its own."""


class _MessageTransport(Transport):
    """A socket of which each `send` and each `receive` is one message."""

    keeps_messages = True
    pumpable = True

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.socket: trio.socket.SocketType = socket

    @property
    def largest(self) -> int:
        with _translated():
            return self.socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF) - _OVERHEAD

    async def aclose(self) -> None:
        self.socket.close()
        await trio.lowlevel.checkpoint()


class PacketTransport(_MessageTransport):
    """One end of a connection that keeps messages apart (SOCK_SEQPACKET, unix(7)).

    An empty message looks like the end, so none is sent, and one that arrives is the end.
    """

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        with _translated(harmless=errno.EMSGSIZE):
            if not data:
                await trio.lowlevel.checkpoint()
                self.socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_TYPE)  # is it closed?
            else:
                await self.socket.send(data)

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | None:  # noqa: ARG002  -- the interface's
        """Receive one message whole, however small `most` is; see `Transport.receive`.

        Raises:
            trio.BrokenResourceError: also for a message of more than 256 KiB.
        """
        with _translated(harmless=errno.EMSGSIZE):
            return _whole(await self.socket.recv(LARGEST_PACKET + 1)) or None

    async def send_eof(self) -> None:
        with _translated(harmless=errno.EMSGSIZE):
            await trio.lowlevel.checkpoint()
            self.socket.shutdown(sockets.SHUT_WR)


class DatagramTransport(_MessageTransport):
    """A connected socket for datagrams: the kernel lets in what its one peer sends."""

    connectionless = True
    half_closeable = False

    def __init__(self, sock: sockets.socket, address: Address) -> None:
        """Take over a new socket and connect it, which does not show whether a server is there.

        Raises:
            OSError: there is no such address, or no way to it. The socket stays the caller's.
        """
        sock.setblocking(False)
        self._connect = functools.partial(sock.connect, address)
        self._connect()
        super().__init__(trio.socket.from_stdlib_socket(sock))
        self.address = text_of(address)
        self.peer = address
        """Where datagrams go, as the system takes it."""
        self._largest = _LARGEST_UDP.get(sock.family) or super().largest
        self._buffer = bytearray()  # most are received from by others, who have their own
        self._header = b""

    def introduce(self, header: bytes) -> None:
        """Send `header` before each message from now on, which the pump cannot do."""
        self._header, self.pumpable = header, False
        self._largest -= len(header)

    @property
    def one(self) -> DatagramTransport:
        """The only one; of several that race, the one that is kept, or else the first."""
        return self

    @property
    def largest(self) -> int:
        return self._largest

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        with _translated():
            data = self._header + data if self._header else data
            try:
                await self.socket.send(data)
            except OSError:
                # Over UDP that was about an earlier datagram (udp(7)): errors arrive whenever
                # they like. A Unix socket lost its peer, but another may serve the same path
                # by now.
                self._connect()
                await self.socket.send(data)

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes:  # noqa: ARG002  -- as packets
        # A Unix datagram can be as large as a packet.
        self._buffer = self._buffer or bytearray(LARGEST_PACKET + 1)
        with _translated():
            size = await self.socket.recv_into(self._buffer)
        return _whole(bytes(self._buffer[:size]))

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()


def _whole(message: bytes) -> bytes:
    """Return a message, unless it was so long that it may have been cut."""
    if len(message) > LARGEST_PACKET:
        raise trio.BrokenResourceError(f"a message had more than {LARGEST_PACKET} bytes")
    return message


@contextlib.contextmanager
def _translated(harmless: int | None = None) -> Iterator[None]:
    """Raise what streams of trio do; for `harmless`, or of datagrams, the system's error."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EBADF:
            raise trio.ClosedResourceError("this end was closed") from None
        if harmless in (None, error.errno):
            raise
        raise trio.BrokenResourceError(str(error)) from error
