"""Streams as transports: what an embedder brings, sockets and memory, all with one face."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import TypeAlias

import pytest
import trio
import trio.testing

from helpers import PATIENCE
from techo._embedded import transport_of
from techo._memory.stream import MemoryStream
from techo._transport.transport import Transport

Pair: TypeAlias = tuple[trio.abc.Stream, trio.abc.Stream]


async def sockets() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return two ends of a TCP connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        client = await trio.testing.open_stream_to_socket_listener(listener)
        return client, await listener.accept()


@pytest.fixture(params=["memory", "tcp", "lockstep"])
async def pair(request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Return two ends of a connection."""
    made: Pair
    if request.param == "tcp":
        made = await sockets()
    elif request.param == "memory":
        made = MemoryStream.pair()
    else:
        made = trio.testing.lockstep_stream_pair()
    with trio.fail_after(PATIENCE):
        yield made
    for each in made:
        await trio.aclose_forcefully(each)


async def test_bytes_and_the_end_arrive(pair: Pair) -> None:
    """None is the end, of any stream."""
    ours, theirs = map(transport_of, pair)

    async def send() -> None:
        await ours.send(b"hello")
        await ours.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await theirs.receive(2) == b"he"
        assert await theirs.receive() == b"llo"
        assert await theirs.receive() is None
        nursery.start_soon(theirs.send, b"back")
        assert await ours.receive() == b"back"
    assert ours.half_closeable
    assert ours.handshake_done
    assert not ours.keeps_messages
    assert not ours.connectionless
    assert ours.largest is None


async def test_closing_is_seen_by_both(pair: Pair) -> None:
    """Both ways of closing do the same."""
    ours, theirs = map(transport_of, pair)
    await trio.aclose_forcefully(ours)
    await ours.aclose()
    assert await theirs.receive() is None
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive()
    await theirs.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await theirs.send(b"x")


async def test_a_reset_is_a_broken_connection_where_there_is_such_a_thing(pair: Pair) -> None:
    """Elsewhere the peer sees the end."""
    ours, theirs = map(transport_of, pair)
    await ours.reset()
    await ours.reset()
    if isinstance(pair[0], trio.StapledStream):
        assert await theirs.receive() is None
        return
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive()


async def test_only_a_bare_socket_is_direct(  # noqa: ASYNC124  -- sockets want a run
    pair: Pair,
) -> None:
    """The pump may take over such a socket only."""
    transport = transport_of(pair[0])
    is_socket = isinstance(pair[0], trio.SocketStream)
    assert transport.pumpable is is_socket
    assert (transport.socket is not None) is is_socket
    assert transport_of(transport) is transport


async def test_what_cannot_half_close_only_ends_when_it_is_closed() -> None:
    """An embedder's own stream may be such a one."""

    class Own(trio.abc.Stream):
        closed = False

        async def send_all(self, data: object) -> None:
            pass

        async def wait_send_all_might_not_block(self) -> None:
            pass

        async def receive_some(self, _: int | None = None) -> bytes:
            return b""

        async def aclose(self) -> None:
            self.closed = True
            await trio.lowlevel.checkpoint()

    stream = Own()
    transport = transport_of(stream)
    assert not transport.half_closeable
    await transport.send_eof()
    assert not stream.closed
    await trio.aclose_forcefully(transport)
    assert stream.closed


@pytest.fixture
async def tls(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> AsyncIterator[tuple[trio.SSLStream[trio.SocketStream], Transport]]:
    """Return a client of trio's, and a server that an embedder has wrapped."""
    client, server = await sockets()
    wrapped = trio.SSLStream(server, server_tls, server_side=True)
    with trio.fail_after(PATIENCE):
        yield (
            trio.SSLStream(client, client_tls, server_hostname="localhost"),
            transport_of(wrapped),
        )
    client.socket.close()
    server.socket.close()


async def test_an_embedder_s_tls_does_its_handshake_and_ends_with_close_notify(
    tls: tuple[trio.SSLStream[trio.SocketStream], Transport],
) -> None:
    """Though it cannot half-close, its peer sees that nothing is missing."""
    client, server = tls
    assert not server.handshake_done
    assert not server.pumpable
    assert not server.half_closeable
    assert server.socket is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        await server.handshake()
    assert server.handshake_done
    await client.send_all(b"hello")
    assert await server.receive() == b"hello"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_eof)
        assert await client.receive_some() == b""
        await client.aclose()
    await server.send_eof()
    assert await server.receive() is None
    await server.aclose()


async def test_an_embedder_s_tls_closes_below_if_there_was_no_handshake(
    tls: tuple[trio.SSLStream[trio.SocketStream], Transport],
) -> None:
    """No handshake is begun only to close."""
    client, server = tls
    await server.aclose()
    assert await client.transport_stream.receive_some() == b""
    assert server.socket is not None
    assert server.socket.fileno() == -1


async def test_what_an_embedder_s_tls_refuses_is_an_error_of_tls(
    tls: tuple[trio.SSLStream[trio.SocketStream], Transport],
) -> None:
    """A peer that does not speak TLS is such an error."""
    client, server = tls
    await client.transport_stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await server.handshake()
    await server.reset()
    with pytest.raises(trio.BrokenResourceError):
        await client.transport_stream.receive_some()


async def test_an_embedder_s_tls_is_sent_an_end_even_if_it_never_pauses(
    tls: tuple[trio.SSLStream[trio.SocketStream], Transport],
) -> None:
    """What the peer sends meanwhile is lost, but not the end."""
    client, server = tls

    async def chatter() -> None:
        with trio.CancelScope() as scope:
            while True:
                await client.send_all(b"and on ")
                await trio.sleep(0.001)  # between two pieces; how long makes no difference
                scope.shield = False

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.do_handshake)
        await server.handshake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chatter)
        with trio.move_on_after(0.2):
            await server.send_eof()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(server)
