"""Packets: SOCK_SEQPACKET connections as streams, each send and each receive one message."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import trio

LARGEST_PACKET: Final = 2**18
"""Bytes in a message that is received whole: more than Linux lets a peer send (some 208 KiB)
that has not changed its own buffers."""

_OVERHEAD: Final = 32
"""Bytes of a Unix socket's send buffer that no message can use, on Linux (measured, and in the
kernel's unix_dgram_sendmsg)."""


class PacketStream(trio.abc.HalfCloseableStream):
    """One end of a connection that keeps the boundaries of messages (unix(7)).

    `send_all` sends one message, `receive_some` gives one, whole. An empty message cannot be
    told from the end, so none is sent, and one that arrives is the end.
    """

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.socket = socket
        """Public, as that of `trio.SocketStream` is."""

    @property
    def largest(self) -> int:
        """How many bytes a message to send may have.

        Raises:
            trio.ClosedResourceError: this end was closed.
        """
        with _translated():
            return largest_message(self.socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send one message; cancellation means that it was not sent.

        Raises:
            OSError: with EMSGSIZE, the message is too large for the socket's buffer.
            trio.BrokenResourceError: the peer has gone.
            trio.ClosedResourceError: this end was closed.
        """
        with _translated():
            if not data:
                await trio.lowlevel.checkpoint()
                self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)  # is it closed?
            else:
                await self.socket.send(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until a message might fit."""
        with _translated():
            await trio.lowlevel.wait_writable(self.socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002  -- trio's
        """Receive one message whole, however small `max_bytes` is; nothing means the end.

        Raises:
            trio.BrokenResourceError: the peer broke the connection, or sent a message of more
                than 256 KiB, of which the rest is lost.
            trio.ClosedResourceError: this end was closed.
        """
        with _translated():
            data, _, flags, _ = await self.socket.recvmsg(LARGEST_PACKET)
        if flags & socket.MSG_TRUNC:
            raise trio.BrokenResourceError(f"a message had more than {LARGEST_PACKET} bytes")
        return data

    async def send_eof(self) -> None:
        """Say that nothing more will be sent."""
        with _translated():
            await trio.lowlevel.checkpoint()
            self.socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close at once."""
        self.socket.close()
        await trio.lowlevel.checkpoint()


class PacketListener(trio.abc.Listener[PacketStream]):
    """Accepts connections on a listening socket, for `trio.serve_listeners`."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.socket = socket

    async def accept(self) -> PacketStream:
        """Wait for a connection.

        Raises:
            OSError: there is none to be had now, for want of descriptors or memory.
            trio.ClosedResourceError: the listener was closed.
        """
        while True:
            try:
                accepted, _ = await self.socket.accept()
            except ConnectionAbortedError:
                continue  # it was gone before it was accepted
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise trio.ClosedResourceError("the listener was closed") from None
                raise
            # A stamped reply is longer than what it answers, and must fit too (socket(7)).
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_PACKET)
            return PacketStream(accepted)

    async def aclose(self) -> None:
        """Close at once."""
        self.socket.close()
        await trio.lowlevel.checkpoint()


def largest_message(sock: socket.socket | trio.socket.SocketType) -> int:
    """Give how many bytes a Unix socket that keeps the boundaries of messages sends at once."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _OVERHEAD


def check_fits(size: int, largest: int) -> None:
    """Refuse a message that its transport cannot carry.

    Raises:
        ValueError: naming its size and the limit.
    """
    if size > largest:
        raise ValueError(
            f"{size} bytes do not fit into one message: {largest} is the most here"
        )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise what trio's streams raise."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            raise
        if error.errno == errno.EBADF:
            raise trio.ClosedResourceError("the stream was closed") from None
        raise trio.BrokenResourceError(str(error)) from error
