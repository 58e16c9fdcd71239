"""Reads that end early: what the kernel keeps back behind a mark is received all the same."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable

import pytest
import trio

import techo
from helpers import PATIENCE, connect, receive_until_end

pytestmark = pytest.mark.usefixtures("conversation")

PARTS = [b"abc", b"def", b"ghi"]

Send = Callable[[socket.socket, bytes], object]


def with_descriptor(sock: socket.socket, part: bytes) -> None:
    """Send a part that carries a file descriptor, behind which a read ends (unix(7))."""
    number = array.array("i", [sock.fileno()])
    sock.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, number)])


def with_urgent_byte(sock: socket.socket, part: bytes) -> None:
    """Send a part; behind the first an urgent byte, before which a read ends."""
    sock.send(part)
    if part == PARTS[0]:  # a second one would make this one data like any other
        sock.send(b"!", socket.MSG_OOB)


async def answer(sock: trio.socket.SocketType, size: int) -> bytes:
    """Receive `size` bytes, and no more."""
    data = b""
    with trio.fail_after(PATIENCE):
        while len(data) < size and (chunk := await sock.recv(size - len(data))):
            data += chunk
    return data


async def test_what_is_behind_an_urgent_byte_comes_back() -> None:
    """A TCP peer that sends urgent data gets everything around it back."""
    async with (
        techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server,
        await connect(server) as stream,
    ):
        await stream.send_all(b"first")
        assert await answer(stream.socket, 5) == b"first"
        with socket.socket(fileno=os.dup(stream.socket.fileno())) as ours:
            for part in PARTS:  # no checkpoint: the server sees all at once
                with_urgent_byte(ours, part)
        assert await answer(stream.socket, 9) == b"".join(PARTS)


@pytest.mark.parametrize("send", [with_descriptor, with_urgent_byte])
async def test_what_is_behind_descriptors_comes_back(send: Send, nursery: trio.Nursery) -> None:
    """A Unix peer that passes descriptors, or urgent bytes where Unix knows them, gets all."""
    service = techo.EchoService(techo.raw)
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    nursery.start_soon(service.handle, stream)
    with ours:
        peer = trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(ours.fileno())))
        with peer:
            await peer.send(b"first")
            assert await answer(peer, 5) == b"first"
            try:
                for part in PARTS:
                    send(ours, part)
            except OSError:
                pytest.skip("this system knows no urgent bytes on Unix sockets")
            assert await answer(peer, 9) == b"".join(PARTS)
            ours.shutdown(socket.SHUT_WR)
            assert await receive_until_end(trio.SocketStream(peer)) == b""


async def test_load_receives_what_is_behind_descriptors() -> None:
    """A reply that arrives in several reads, each shorter than it could be, is whole."""

    async def echo_in_parts(sock: socket.socket) -> None:
        with sock:
            reader = trio.socket.from_stdlib_socket(socket.socket(fileno=os.dup(sock.fileno())))
            with reader:
                while data := await reader.recv(1000):
                    for begin in range(0, len(data), 24):
                        with_descriptor(sock, data[begin : begin + 24])

    async with trio.open_nursery() as nursery:

        async def dial() -> trio.SocketStream:  # noqa: ASYNC124  -- as load wants it
            ours, theirs = socket.socketpair()
            nursery.start_soon(echo_in_parts, theirs)
            return trio.SocketStream(trio.socket.from_stdlib_socket(ours))

        with trio.fail_after(PATIENCE):
            report = await techo.load(dial, connections=2, trips=20, size=96, timeout=PATIENCE)
        assert (report.received, report.lost) == (20, 0)
