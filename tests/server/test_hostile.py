"""Hostile peers: one table, whose outcomes and counts both conversations must give alike."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
import trio.testing
import trustme

import techo
from helpers import (
    PATIENCE,
    connect,
    ended,
    receive_until_end,
    reset,
    trust,
    until,
    until_ended,
)

pytestmark = pytest.mark.usefixtures("conversation")

SLOW = techo.Limits(idle_timeout=PATIENCE, close_timeout=PATIENCE)
"""Nothing ends by itself, so that only what the peer does can be the reason."""

HASTY = techo.Limits(idle_timeout=0.5, handshake_timeout=0.5)

Peer = Callable[[trio.SocketStream, techo.EchoService], Awaitable[None]]


def push(stream: trio.SocketStream, data: bytes) -> None:
    """Send without a checkpoint, so that what follows arrives before the server looks."""
    assert os.write(stream.socket.fileno(), data) == len(data)


async def echoed(stream: trio.SocketStream, data: bytes) -> None:
    """Send a message and receive its echo, but not more."""
    await stream.send_all(data)
    back = b""
    while len(back) < len(data):
        back += await stream.receive_some(len(data) - len(back))
    assert back == data


# All of these are coroutine functions because some must be.
async def reset_at_once(  # noqa: ASYNC124  -- as said above
    stream: trio.SocketStream, _server: techo.EchoService
) -> None:
    """Break the connection without a byte."""
    reset(stream)


async def reset_in_mid_message(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Break it when the second message is half there."""
    await echoed(stream, bytes(1000))
    push(stream, bytes(500))
    reset(stream)


async def send_one_byte_and_reset(  # noqa: ASYNC124  -- likewise
    stream: trio.SocketStream, _server: techo.EchoService
) -> None:
    """Break it before the byte can be answered."""
    push(stream, b"x")
    reset(stream)


async def reset_without_reading(stream: trio.SocketStream, server: techo.EchoService) -> None:
    """Break it when the echo is there but unread."""
    push(stream, b"hello")
    await until(lambda: server.statistics().bytes_out)
    reset(stream)


async def end_at_once(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Half-close without a byte; what comes back is an end, over TLS after an alert."""
    await stream.send_eof()
    await receive_until_end(stream)


async def close_at_once(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Close without a byte."""
    await stream.aclose()


async def half_close_and_be_silent(
    stream: trio.SocketStream, server: techo.EchoService
) -> None:
    """Send, half-close, and neither read nor close until the server has ended it."""
    push(stream, b"hello")
    stream.socket.shutdown(socket.SHUT_WR)
    await until_ended(server, 1)
    assert await receive_until_end(stream) == b"hello"


async def send_and_be_silent(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Send one message, then nothing until the server ends it."""
    await echoed(stream, b"hello")
    assert await stream.receive_some() == b""


async def reset_during_the_close(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Break it when the server has ended it and waits for the same."""
    assert await stream.receive_some() == b""
    reset(stream)


async def send_during_the_close(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Go on sending when the server has ended it; it is thrown away, and not counted."""
    assert await stream.receive_some() == b""
    await stream.send_all(bytes(1000))
    await stream.send_eof()


async def never_read(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Send for ever."""
    with contextlib.suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(bytes(50_000))


async def send_during_a_drain(stream: trio.SocketStream, server: techo.EchoService) -> None:
    """Go on after the drain has begun, and pause then."""
    await echoed(stream, b"before")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.drain)
        await echoed(stream, b"after")
        assert await stream.receive_some() == b""
        await stream.aclose()


async def be_silent_during_a_drain(
    stream: trio.SocketStream, server: techo.EchoService
) -> None:
    """Be connected, no more."""
    await until(lambda: server.statistics().active)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.drain)
        assert await stream.receive_some() == b""
        await stream.aclose()


async def reset_during_a_drain(stream: trio.SocketStream, server: techo.EchoService) -> None:
    """Break it when the drain holds a reply back."""
    await echoed(stream, b"before")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.drain)
        await echoed(stream, b"after")
        push(stream, b"x")
        reset(stream)


async def send_a_lot_and_end(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Send more than any buffer holds, read it all, and half-close in between."""
    size = 2**23

    async def send() -> None:
        await stream.send_all(bytes(size))
        await stream.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert len(await receive_until_end(stream)) == size


@attrs.frozen
class Row:
    """A peer, and what the server must make of it."""

    peer: Peer
    outcome: str
    counts: tuple[int | None, int | None, int | None]
    """Chunks, bytes in and bytes out; None where they depend on the kernel's buffers."""
    limits: techo.Limits = SLOW


ROWS = [
    Row(reset_at_once, "reset", (0, 0, 0)),
    Row(reset_in_mid_message, "reset", (2, 1500, 1000)),
    Row(send_one_byte_and_reset, "reset", (1, 1, 0)),
    Row(reset_without_reading, "reset", (1, 5, 5)),
    Row(end_at_once, "eof", (0, 0, 0)),
    Row(close_at_once, "eof", (0, 0, 0)),
    Row(half_close_and_be_silent, "eof", (1, 5, 5)),
    Row(send_and_be_silent, "idle", (1, 5, 5), HASTY),
    Row(reset_during_the_close, "idle", (0, 0, 0), HASTY),
    Row(send_during_the_close, "idle", (0, 0, 0), HASTY),
    Row(send_during_the_close, "expired", (0, 0, 0), techo.Limits(lifetime=0.1)),
    Row(never_read, "stalled", (None, None, None), HASTY),
    Row(send_during_a_drain, "drained", (2, 11, 11)),
    Row(be_silent_during_a_drain, "drained", (0, 0, 0)),
    Row(reset_during_a_drain, "reset", (3, 12, 11)),
    Row(send_a_lot_and_end, "eof", (None, 2**23, 2**23)),
]


def check(row: Row, statistics: techo.Statistics) -> None:
    """Compare what was counted with what the table says."""
    assert ended(statistics) == {row.outcome: 1}
    assert statistics.accepted == 1
    found = (statistics.chunks, statistics.bytes_in, statistics.bytes_out)
    for expected, counted in zip(row.counts, found, strict=True):
        assert expected in (None, counted), found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.peer.__name__}-{row.outcome}")
async def test_every_hostile_peer_costs_its_own_connection_only(
    row: Row, caplog: pytest.LogCaptureFixture, patient_clock: trio.testing.MockClock
) -> None:
    """It gets one outcome and no traceback, and the counts are the same both ways."""
    caplog.set_level(logging.DEBUG, "techo")
    async with techo.open_server(
        "tcp://127.0.0.1:0", reply=techo.raw, limits=row.limits
    ) as server:
        with trio.fail_after(PATIENCE):
            stream = await connect(server)
            await row.peer(stream, server)
            check(row, await until_ended(server, 1))
        await stream.aclose()
    assert not [record for record in caplog.records if record.exc_info]


async def speak_plain(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Send what is no TLS, and wait for the end."""
    await stream.send_all(b"GET / HTTP/1.0\r\n\r\n")
    await receive_until_end(stream)
    await stream.aclose()


async def begin_and_be_silent(stream: trio.SocketStream, _server: techo.EchoService) -> None:
    """Send half of a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust(trustme.CA()).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    await stream.send_all(hello[: len(hello) // 2])
    assert await stream.receive_some() == b""


BEFORE_TLS = [
    Row(speak_plain, "reset", (0, 0, 0)),
    Row(begin_and_be_silent, "idle", (0, 0, 0), HASTY),
    Row(reset_at_once, "reset", (0, 0, 0)),
    Row(send_one_byte_and_reset, "reset", (0, 0, 0)),
    Row(end_at_once, "reset", (0, 0, 0)),
    Row(close_at_once, "reset", (0, 0, 0)),
    Row(be_silent_during_a_drain, "drained", (0, 0, 0)),
]


@pytest.mark.parametrize("row", BEFORE_TLS, ids=lambda row: row.peer.__name__)
async def test_a_hostile_peer_before_the_handshake(
    row: Row,
    server_tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    patient_clock: trio.testing.MockClock,
) -> None:
    """A handshake that never comes to its end is a reset, or idle if it takes too long."""
    caplog.set_level(logging.DEBUG, "techo")
    async with techo.open_server(
        "tls://127.0.0.1:0", reply=techo.raw, limits=row.limits, tls=server_tls
    ) as server:
        with trio.fail_after(PATIENCE):
            stream = await connect(server)
            await row.peer(stream, server)
            check(row, await until_ended(server, 1))
        await stream.aclose()
    assert not [record for record in caplog.records if record.exc_info]


TlsPeer = Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]]


async def vanish(stream: trio.SSLStream[trio.SocketStream]) -> None:
    """End what is below, without close_notify."""
    await stream.transport_stream.aclose()


async def break_off(  # noqa: ASYNC124  -- likewise
    stream: trio.SSLStream[trio.SocketStream],
) -> None:
    """Reset what is below."""
    reset(stream.transport_stream)


async def send_garbage(stream: trio.SSLStream[trio.SocketStream]) -> None:
    """Send what is no record."""
    await stream.transport_stream.send_all(bytes(100))
    await receive_until_end(stream.transport_stream)
    await stream.transport_stream.aclose()


async def end_properly(stream: trio.SSLStream[trio.SocketStream]) -> None:
    """Send close_notify, and see the server's."""
    below, rest = await stream.unwrap()
    assert rest == b""
    await below.aclose()


@pytest.mark.parametrize(
    ("peer", "outcome"),
    [(vanish, "reset"), (break_off, "reset"), (send_garbage, "reset"), (end_properly, "eof")],
)
async def test_a_hostile_peer_after_the_handshake(  # noqa: PLR0917  -- parameters and fixtures
    peer: TlsPeer,
    outcome: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    patient_clock: trio.testing.MockClock,
) -> None:
    """What came before it was echoed and is counted; only close_notify is an end."""
    caplog.set_level(logging.DEBUG, "techo")
    async with techo.open_server(
        "tls://127.0.0.1:0", reply=techo.raw, limits=SLOW, tls=server_tls
    ) as server:
        with trio.fail_after(PATIENCE):
            below = await connect(server)
            stream = trio.SSLStream(below, client_tls, server_hostname="127.0.0.1")
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
            await peer(stream)
            found = await until_ended(server, 1)
        await trio.aclose_forcefully(below)
    assert ended(found) == {outcome: 1}
    assert (found.chunks, found.bytes_in, found.bytes_out) == (1, 5, 5)
    assert not [record for record in caplog.records if record.exc_info]
