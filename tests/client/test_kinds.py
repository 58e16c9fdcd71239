"""Every kind of endpoint: the same client, the same trips, the same errors."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, open_descriptors

Meet = Callable[
    [techo.Reply], AbstractAsyncContextManager[tuple[techo.EchoService, techo.EchoClient]]
]

DATAGRAMS = {techo.Kind.UDP, techo.Kind.UNIXGRAM}
MESSAGES = {*DATAGRAMS, techo.Kind.UNIXPACKET}
"""Kinds over which a trip is one message."""


@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
@pytest.mark.parametrize("size", [1, 5, 60_000])
async def test_what_is_sent_comes_back(
    meet: Meet, kind: techo.Kind, reply: techo.Reply, size: int
) -> None:
    """There are as many stamps as chunks, which is one for a message."""
    data = os.urandom(size)
    async with meet(reply) as (_, client):
        trip = await client.round_trip(data)
    assert len(trip.reply) == size + 27 * len(trip.stamps)
    assert 0 < trip.seconds < PATIENCE
    if reply is techo.raw:
        assert trip.reply == data
    elif kind in MESSAGES or size <= 5:
        assert len(trip.stamps) == 1
        assert trip.reply.endswith(b"] " + data)


@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
async def test_many_trips_in_a_row_stay_in_step(meet: Meet, reply: techo.Reply) -> None:
    """Each gets its own reply."""
    async with meet(reply) as (_, client):
        for number in range(100):
            data = b"%d" % number
            trip = await client.round_trip(data)
            assert trip.reply.endswith(data)
            assert len(trip.reply) - len(data) in (0, 27)


async def test_nothing_is_an_empty_datagram_and_no_bytes_elsewhere(
    meet: Meet, kind: techo.Kind
) -> None:
    """An empty datagram's answer is waited for; over connections nothing is owed."""
    async with meet(techo.stamped) as (server, client):
        trip = await client.round_trip(b"")
        assert len(trip.stamps) == (1 if kind in DATAGRAMS else 0)
        assert server.statistics().datagrams.received == len(trip.stamps)
        assert (await client.round_trip(b"still in step")).reply.endswith(b"still in step")
    async with meet(techo.raw) as (server, client):
        assert (await client.round_trip(b"")).reply == b""
        assert server.statistics().datagrams.echoed == (1 if kind in DATAGRAMS else 0)


async def test_a_message_too_large_names_size_and_limit_and_does_no_harm(
    meet: Meet, kind: techo.Kind
) -> None:
    """The largest goes through, one byte more is a ValueError; without messages all goes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        unix = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
    limits = {"udp": 65507, "unixgram": unix, "unixpacket": unix}
    async with meet(techo.raw) as (_, client):
        if kind not in MESSAGES:
            assert len((await client.round_trip(bytes(2**21))).reply) == 2**21
            return
        limit = limits[kind]
        assert len((await client.round_trip(bytes(limit))).reply) == limit
        with pytest.raises(ValueError, match=f"{limit + 1} bytes .* {limit} is the most"):
            await client.round_trip(bytes(limit + 1))
        assert (await client.round_trip(b"as before")).reply == b"as before"


async def test_ipv6_fits_20_bytes_more() -> None:
    """IPv6's header is not counted in a datagram's length."""
    async with (
        techo.open_server("udp://[::1]:0", reply=techo.raw) as server,
        techo.open_client(server.endpoints[0]) as client,
    ):
        assert len((await client.round_trip(bytes(65_527))).reply) == 65_527
        with pytest.raises(ValueError, match="65527 is the most"):
            await client.round_trip(bytes(65_528))


async def test_a_wrong_reply_ends_a_connection_and_is_ignored_as_a_datagram(
    meet: Meet, kind: techo.Kind
) -> None:
    """In a stream all that follows is out of step; a datagram stands alone."""
    async with meet(lambda data: data.replace(b"l", b"r")) as (_, client):
        if kind in DATAGRAMS:
            with trio.move_on_after(0.05) as scope:  # the reply has come long before
                await client.round_trip(b"hello")
            assert scope.cancelled_caught
            assert (await client.round_trip(b"unharmed")).reply == b"unharmed"
        else:
            with pytest.raises(techo.EchoMismatch):
                await client.round_trip(b"hello")
            with pytest.raises(trio.ClosedResourceError):
                await client.round_trip(b"hello")


async def test_a_server_that_has_gone_is_told(
    address: str,
    kind: techo.Kind,
    client_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
) -> None:
    """Datagrams get an OSError; a connection is short of its reply, or broken."""
    tls = client_tls if kind is techo.Kind.TLS else None
    hurried = techo.Limits(close_timeout=0.01)
    async with techo.open_server(address, tls=server_tls, limits=hurried) as server:
        endpoint = server.endpoints[0]
        opening = techo.open_client(endpoint, tls=tls)
        client = await opening.__aenter__()
        await client.round_trip(b"hello")
    gone = OSError if kind in DATAGRAMS else (techo.ShortReply, trio.BrokenResourceError)
    for _ in range(2 if kind in DATAGRAMS else 1):
        with pytest.raises(gone):
            await client.round_trip(b"hello")
    await opening.__aexit__(None, None, None)
    if kind is not techo.Kind.UDP:
        with pytest.raises(OSError, match=r"refused|attempts to connect|No such file"):
            async with techo.open_client(endpoint, tls=tls):
                raise AssertionError("it can't be connected")


@pytest.mark.parametrize("kind", sorted(DATAGRAMS))
async def test_datagrams_find_a_server_that_came_back(kind: techo.Kind, address: str) -> None:
    """The client outlives the server; only the trip without one fails."""
    async with techo.open_server(address) as server:
        endpoint = server.endpoints[0]
        opening = techo.open_client(endpoint)
        client = await opening.__aenter__()
    with pytest.raises(OSError, match=r"refused|No such file"):
        await client.round_trip(b"hello")
    async with techo.open_server(endpoint):
        assert (await client.round_trip(b"again")).reply.endswith(b"again")
    await opening.__aexit__(None, None, None)


async def test_a_second_task_is_told_that_the_client_is_busy(
    meet: Meet, nursery: trio.Nursery
) -> None:
    """The first task's trip goes on."""
    async with meet(lambda data: b"" if data == b"wait" else data) as (_, client):

        async def first() -> None:
            with trio.move_on_after(PATIENCE) as scope:
                nursery.start_soon(second, scope)
                await client.round_trip(b"wait")

        async def second(scope: trio.CancelScope) -> None:
            with pytest.raises(trio.BusyResourceError):
                await client.round_trip(b"second")
            scope.cancel()

        await first()


async def test_a_closed_client_says_so_and_leaves_no_descriptor(meet: Meet) -> None:
    """Every kind does so, whatever trip is asked of it."""
    before = await open_descriptors()
    async with meet(techo.raw) as (_, client):
        await client.round_trip(b"hello")
    for data in (b"", b"hello"):
        with pytest.raises(trio.ClosedResourceError):
            await client.round_trip(data)
    assert await open_descriptors() == before


@pytest.mark.parametrize("name", ["unix:@", "unixgram:@", "unixpacket:@"])
async def test_abstract_names_are_connected_to(name: str) -> None:
    """No path is left behind, because there is none."""
    async with (
        techo.open_server(f"{name}techo-{os.getpid()}") as server,
        techo.open_client(server.endpoints[0]) as client,
    ):
        with trio.fail_after(PATIENCE):
            trip = await client.round_trip(b"hello")
        assert trip.reply.endswith(b"hello")


@pytest.mark.parametrize(
    ("endpoint", "match"),
    [
        ("fd:3", "it is for servers"),
        ("tls+fd:3", "it is for servers"),
        ("udp://*:8009", "name host and port"),
        ("udp://127.0.0.1:0", "name host and port"),
        ("tls://127.0.0.1:0", "name host and port"),
    ],
)
async def test_what_only_a_server_can_mean_is_a_value_error(endpoint: str, match: str) -> None:
    """It is refused before anything is opened."""
    with pytest.raises(ValueError, match=match):
        async with techo.open_client(endpoint):
            raise AssertionError("it can't be connected")


async def test_connecting_to_a_path_fails_with_the_system_s_reason(tmp_path: Path) -> None:
    """A missing path, another kind and a full queue each have their own errno."""
    path = str(tmp_path / "s")

    async def reason(endpoint: str) -> str:
        with pytest.raises(OSError, match=r".") as caught:
            async with techo.open_client(endpoint):
                raise AssertionError("it can't be connected")
        return errno.errorcode[caught.value.errno or 0]

    before = await open_descriptors()
    assert await reason(f"unix:{path}") == "ENOENT"
    async with techo.open_server(f"unix:{path}"):
        assert await reason(f"unixpacket:{path}") == "EPROTOTYPE"
        assert await reason(f"unixgram:{path}") == "EPROTOTYPE"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        async with techo.open_client(f"unix:{path}"):
            assert await reason(f"unix:{path}") == "EAGAIN"
    assert await reason(f"unix:{path}") == "ECONNREFUSED"
    assert await open_descriptors() == before
