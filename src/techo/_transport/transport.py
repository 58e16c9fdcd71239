"""The transport: what every kind of connection can do, whatever carries the bytes."""

from __future__ import annotations

import abc
from typing import Final

import trio

from techo._kernel.packets import PacketFormat
from techo._tls.records import TlsRecords

RECEIVE_SIZE: Final = 2**16
"""Bytes; what trio's own streams receive at a time."""


class Transport(trio.abc.AsyncResource):
    """One connection, or one connected socket for datagrams.

    One task may send while another receives. Errors are trio's, whatever is underneath.
    """

    keeps_messages: bool = False
    """Whether each `send` is one message, and each `receive` returns one, whole."""
    connectionless: bool = False
    """Whether there are only datagrams: each may be lost alone, an empty one is data, and there
    is no end-of-file."""
    half_closeable: bool = True
    """Whether replies still come after `send_eof`; over TLS, most peers end altogether then."""
    pumpable: bool = False
    """Whether the pump can take over: the bytes of `socket` are those that are sent and
    received, or their `records` are."""
    records: TlsRecords | None = None
    """The TLS between; None if there is none that the pump could do."""
    multipath: bool = False
    """Whether it was to be MPTCP; what it has become is to be asked of `socket`."""
    packet_format: PacketFormat | None = None
    """How messages lie in packets of `socket` where these have more in them, as over ICMP."""
    secure: bool = False
    """Whether it is TLS, whose end close_notify announces."""
    handshake_done: bool = True
    """Whether `handshake` need not be called any more."""
    fed_at: float | None = None
    """When bytes last came that `receive` may not have returned yet, such as a part of a TLS
    record; None where it returns all that comes."""
    address: str = ""
    """Where it leads, ``HOST:PORT`` or a path; empty while that is not known."""
    socket: trio.socket.SocketType | None = None
    """The socket underneath, through TLS too; None if there is none, as in memory."""

    @property
    def largest(self) -> int | None:
        """Bytes that fit into one message; None where there are no messages."""
        return None

    async def handshake(self) -> None:
        """Do what comes before the first byte: the TLS handshake, or nothing.

        Cancellation leaves nothing but `aclose` to do.

        Raises:
            OSError: as `ssl.SSLError`, the peer and we cannot agree; it was sent an alert.
            trio.BrokenResourceError: the connection broke.
        """
        await trio.lowlevel.checkpoint()

    @abc.abstractmethod
    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, which is one message where messages are kept.

        Cancellation may leave a part of it sent, but no part of a message.

        Raises:
            OSError: a message that does not fit (EMSGSIZE), or that was refused (datagrams).
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: this end was closed.
        """

    @abc.abstractmethod
    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        """Receive up to `most` bytes, or one message whole; None is end-of-file.

        Cancellation loses nothing.

        Raises:
            OSError: an earlier datagram was refused.
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: this end was closed.
        """

    @abc.abstractmethod
    async def send_eof(self) -> None:
        """Report that nothing more will be sent; TLS sends close_notify. Again is harmless.

        Raises:
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: this end was closed.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Close; over TLS after close_notify, which may wait.

        If cancelled, as by `trio.aclose_forcefully`, close at once, and send nothing.
        """

    async def reset(self) -> None:
        """Close at once so that what is in flight is lost, where the transport can do that."""
        await trio.aclose_forcefully(self)
