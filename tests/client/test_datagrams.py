"""Datagrams: late, foreign and mutilated ones are ignored, and errors find the right trip."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import example, given
from hypothesis import strategies as st

import techo
from helpers import PATIENCE
from techo.reply import stamped


@attrs.define
class Peer:
    """A hand-written UDP server, and its client."""

    sock: trio.socket.SocketType
    client: techo.EchoClient
    address: Any = None

    async def receive(self) -> bytes:
        """Wait for the client's next datagram."""
        with trio.fail_after(PATIENCE):
            data, self.address = await self.sock.recvfrom(2**16)
        return data

    async def trip(self, data: bytes) -> techo.RoundTrip:
        """Let the client make a trip."""
        with trio.fail_after(PATIENCE):
            return await self.client.round_trip(data)

    async def send(self, *datagrams: bytes) -> None:
        """Send datagrams to where the last came from."""
        for data in datagrams:
            await self.sock.sendto(data, self.address)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Open one of them."""
    with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        async with techo.open_client(f"udp://127.0.0.1:{sock.getsockname()[1]}") as client:
            yield Peer(sock, client)


async def lose(peer: Peer, data: bytes) -> None:
    """Make a trip that gets no reply."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.trip, data)
            assert await peer.receive() == data
            scope.cancel()


async def test_a_late_reply_is_ignored(peer: Peer) -> None:
    """It is ignored whether it comes before the next trip or during it."""
    await lose(peer, b"first")
    await lose(peer, b"second")
    await peer.send(b"first")
    trips: list[techo.RoundTrip] = []

    async def third() -> None:
        trips.append(await peer.trip(b"third"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(third)
        assert await peer.receive() == b"third"
        await peer.send(b"second", b"", b"thir", b"thirdd", b"THIRD", b"third", b"third")
    assert trips[0].reply == b"third"


async def test_a_late_reply_with_the_same_bytes_does_not_make_the_next_trip_short(
    peer: Peer,
) -> None:
    """What has arrived before sending cannot be the answer to what is sent then."""
    await lose(peer, b"same")
    await peer.send(b"same")
    with trio.move_on_after(0.05) as scope:  # for something not to happen
        await peer.trip(b"same")
    assert scope.cancelled_caught


async def test_late_replies_do_not_fill_the_queue(peer: Peer) -> None:
    """However many there are, they are discarded before sending."""
    await lose(peer, b"lost")
    for _ in range(40):
        await peer.send(bytes(60_000))

    async def answer() -> None:
        await peer.send(await peer.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert (await peer.trip(b"hello")).reply == b"hello"


async def test_a_foreign_datagram_does_not_get_in(peer: Peer) -> None:
    """Its source is not the server, though its bytes are right."""
    replies: list[bytes] = []

    async def trip() -> None:
        replies.append((await peer.trip(b"hello")).reply)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trip)
        data = await peer.receive()
        with trio.socket.socket(type=socket.SOCK_DGRAM) as stranger:
            await stranger.sendto(data, peer.address)
        await trio.testing.wait_all_tasks_blocked()
        assert replies == []
        await peer.send(stamped(data))
    assert len(replies[0]) == 27 + len(data)


async def test_an_empty_trip_waits_for_an_empty_reply(peer: Peer) -> None:
    """The reply may also be a stamp and nothing else."""
    for reply in (b"", stamped(b"")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.trip, b"")
            assert await peer.receive() == b""
            await peer.send(b"x", reply)


async def test_a_refused_port_is_a_bare_error_of_the_trip_that_was_refused() -> None:
    """An error about an earlier datagram does not become the next trip's."""
    with trio.fail_after(PATIENCE), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with techo.open_client(f"udp://127.0.0.1:{port}") as client:
            sock.close()
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await client.round_trip(b"hello")
            assert client._transport.socket is not None
            await client._transport.socket.send(b"refused, which is not seen")
            async with techo.open_server(f"udp://127.0.0.1:{port}"):
                assert (await client.round_trip(b"hello")).reply.endswith(b"hello")


async def test_an_error_that_surfaces_while_sending_is_about_an_earlier_datagram(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent once more."""
    errors = [ConnectionRefusedError(111, "earlier")]
    sock = peer.client._transport.socket
    assert sock is not None
    send = sock.send

    async def refuse_once(data: bytes) -> int:
        if errors:
            raise errors.pop()
        return await send(data)

    monkeypatch.setattr(sock, "send", refuse_once)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.trip, b"hello")
        assert await peer.receive() == b"hello"
        await peer.send(b"hello")


async def test_a_name_s_first_address_that_can_be_connected_to_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any, the error is that of the first."""
    found = [
        (12345, socket.SOCK_DGRAM, 0, "", ("nowhere", 1)),
        (socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("255.255.255.255", 1)),
    ]

    async def pretend(*_: object, **__: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        return list(found)

    async with techo.open_server("udp://127.0.0.1:0") as server:
        port = server.endpoints[0].port
        monkeypatch.setattr(trio.socket, "getaddrinfo", pretend)
        with pytest.raises(OSError, match="Address family not supported"):
            async with techo.open_client(f"udp://two.example:{port}"):
                raise AssertionError("it can't be connected")
        found.append((socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", port)))
        with trio.fail_after(PATIENCE):
            async with techo.open_client(f"udp://two.example:{port}") as client:
                assert (await client.round_trip(b"hello")).reply.endswith(b"hello")


async def test_a_silent_server_takes_as_long_as_the_caller_says(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing ends the waiting but the scope, and the client can be used afterwards."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        async with techo.open_client(f"udp://127.0.0.1:{sock.getsockname()[1]}") as client:
            for _ in range(2):
                started = trio.current_time()
                with pytest.raises(trio.TooSlowError), trio.fail_after(1000):
                    await client.round_trip(b"hello")
                assert trio.current_time() == started + 1000


UNGUARDED = techo.Limits(loop_guard=False)
"""Because our own reply that is sent back within its second is a loop, whoever means it."""


@given(st.lists(st.one_of(st.binary(max_size=60), st.builds(stamped, st.binary())), max_size=6))
@example([b"", b"[", stamped(stamped(b"")), b"x" * 65_000])
def test_any_datagrams_come_back_in_order(datagrams: list[bytes]) -> None:
    """They may have any size and content, and look like stamped ones."""
    path = f"unixgram:@techo-any-{os.getpid()}"

    async def main() -> None:
        for reply in (techo.raw, techo.stamped):
            async with contextlib.AsyncExitStack() as stack:
                server = await stack.enter_async_context(
                    techo.open_server("udp://127.0.0.1:0", path, reply=reply, limits=UNGUARDED)
                )
                for endpoint in server.endpoints:
                    async with techo.open_client(endpoint) as client:
                        for data in datagrams:
                            trip = await client.round_trip(data)
                            assert trip.reply.endswith(data)
                            assert len(trip.reply) <= len(data) + 27
                assert server.statistics().datagrams.received == 2 * len(datagrams)

    async def in_time() -> None:
        with trio.fail_after(PATIENCE):
            await main()

    trio.run(in_time)
