"""Messages as transports: each whole or not at all, and errors that say whose they are."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE
from techo._client.client import check_fits
from techo._transport.connect import connect
from techo._transport.messages import (
    LARGEST_PACKET,
    PacketTransport,
)


def packets() -> tuple[PacketTransport, PacketTransport]:
    """Return two ends of a connection that keeps messages."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    both = [trio.socket.from_stdlib_socket(each) for each in (ours, theirs)]
    return PacketTransport(both[0]), PacketTransport(both[1])


async def test_packets_come_whole_and_then_the_end() -> None:
    """A message comes whole even if less is asked for."""
    ours, theirs = packets()
    assert ours.keeps_messages
    assert ours.pumpable
    assert ours.half_closeable
    await ours.send(b"first")
    await ours.send(b"")  # which would be the end, and is not sent
    await ours.send(bytes(ours.largest))
    await ours.send_eof()
    await ours.send_eof()
    assert await theirs.receive(1) == b"first"
    assert await theirs.receive() == bytes(ours.largest)
    assert await theirs.receive() is None
    await theirs.send(b"back")
    assert await ours.receive() == b"back"
    await trio.aclose_forcefully(theirs)
    with pytest.raises(trio.BrokenResourceError):
        await ours.send(b"nobody")
    await ours.aclose()
    for using in (ours.send(b""), ours.send(b"x"), ours.receive(), ours.send_eof()):
        with pytest.raises(trio.ClosedResourceError):
            await using
    with pytest.raises(trio.ClosedResourceError):
        assert ours.largest


async def test_a_packet_that_does_not_fit_breaks_nothing() -> None:
    """It is the system's error, and the next goes through."""
    ours, theirs = packets()
    with pytest.raises(OSError, match=r".") as error:
        await ours.send(bytes(ours.largest + 1))
    assert error.value.errno == errno.EMSGSIZE
    with pytest.raises(ValueError, match=f"{ours.largest + 1} bytes do not fit"):
        check_fits(ours.largest + 1, ours.largest)
    await ours.send(b"small")
    assert await theirs.receive() == b"small"
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def test_a_packet_larger_than_all_is_a_broken_connection() -> None:
    """A peer that changed its buffers can send one; it cannot be echoed in part."""
    ours, theirs = packets()
    ours.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST_PACKET)
    if ours.largest <= LARGEST_PACKET:
        pytest.skip("the system allows no such buffer")
    await ours.send(bytes(LARGEST_PACKET + 1))
    with pytest.raises(trio.BrokenResourceError, match="more than"):
        await theirs.receive()
    await trio.aclose_forcefully(ours)
    await trio.aclose_forcefully(theirs)


async def test_a_datagram_larger_than_all_is_an_error_and_no_reply(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    """It is not received in part; a client waits on for the reply, as behind any wrong one."""
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LARGEST_PACKET)
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= LARGEST_PACKET + 32:
            pytest.skip("the system allows no such buffer")
        await server.bind(f"{tmp_path}/s")

        async def answer() -> None:
            while True:
                data, client = await server.recvfrom(100)
                await server.sendto(data + bytes(LARGEST_PACKET), client)
                if data != b"one":
                    await server.sendto(data, client)

        nursery.start_soon(answer)
        async with (await connect(f"unixgram:{tmp_path}/s")).transport as transport:
            with trio.fail_after(PATIENCE):
                await transport.send(b"one")
                with pytest.raises(trio.BrokenResourceError, match="more than"):
                    await transport.receive()
                client = techo.EchoClient(transport)
                assert (await client.round_trip(b"two")).reply == b"two"
                await transport.send(b"one")
                await trio.testing.wait_all_tasks_blocked()
                assert (await client.round_trip(b"three")).reply == b"three"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["udp", "unixgram"])
async def test_datagrams_come_one_by_one_and_an_empty_one_is_data(
    kind: str, tmp_path: Path
) -> None:
    """Datagrams have no end-of-file."""
    place = "udp://127.0.0.1:0" if kind == "udp" else f"unixgram:{tmp_path}/s"
    async with techo.open_server(place, reply=techo.raw) as server:
        connected = await connect(server.endpoints[0])
        transport = connected.transport
        assert connected.transport.address in str(server.endpoints[0])
        assert transport.connectionless
        assert transport.keeps_messages
        assert not transport.half_closeable
        with trio.fail_after(PATIENCE):
            for data in (b"", b"x" * 1000, b""):
                await transport.send(data)
                assert await transport.receive(1) == data
        await transport.send_eof()
        await transport.aclose()
        for using in (transport.send(b"x"), transport.receive()):
            with pytest.raises(trio.ClosedResourceError):
                await using


async def test_a_refused_datagram_is_the_system_s_error_of_the_next_call() -> None:
    """Receiving raises it; sending tries once more, because it is about an earlier one."""
    transport = (await connect(f"udp://127.0.0.1:{closed_port()}")).transport
    await transport.send(b"lost")
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionRefusedError):
        await transport.receive()
    await transport.send(b"lost")
    await transport.send(b"lost, too")
    await trio.aclose_forcefully(transport)


def closed_port() -> int:
    """Return a UDP port that nobody listens on."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
