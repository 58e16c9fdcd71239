"""Leaving: each connection ends together with its next reply, while accepting goes on."""

from __future__ import annotations

import os
import select
import socket
import ssl

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, connect, ended, until_ended
from techo._pump.pump import Pump
from techo._pump.socket import PumpedSocket
from techo._transport.streams import StreamTransport
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport

pytestmark = pytest.mark.usefixtures("conversation")


async def until_end(transport: Transport) -> bytes:
    """Receive all up to the end."""
    received = b""
    with trio.fail_after(PATIENCE):
        while (chunk := await transport.receive()) is not None:
            received += chunk
    return received


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize("before", [0, 1, 20])
async def test_the_next_reply_is_the_last(
    kind: str, before: int, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Whatever came before it, the peer gets a whole reply and then an end."""
    place = f"{kind}://127.0.0.1:0"

    async def dial() -> Transport:
        transport: Transport = StreamTransport(await connect(server))
        if kind == "tls":
            transport = TlsTransport(transport, client_tls, server_hostname="localhost")
            await transport.handshake()
        return transport

    async with techo.open_server(place, reply=techo.raw, tls=server_tls) as server:
        old = await dial()
        for _ in range(before):
            await old.send(b"before")
            assert await old.receive() == b"before"
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.leave()
        new = await dial()  # a balancer may not have noticed yet
        for each in (old, new):
            await each.send(b"last")
            assert await until_end(each) == b"last"
            await each.aclose()
        found = await until_ended(server, 2)
        assert ended(found) == {"drained": 2}
        assert found.bytes_in == found.bytes_out == 6 * before + 8


async def test_who_says_nothing_is_left_alone(
    patient_clock: trio.testing.MockClock,
) -> None:
    """The end of its time is the usual one, and a drain ends it at once."""
    limits = techo.Limits(idle_timeout=30)
    async with techo.open_server("127.0.0.1:0", reply=techo.raw, limits=limits) as server:
        quiet, silent = await connect(server), await connect(server)
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.leave()
        begun = trio.current_time()
        await trio.sleep(20)
        await quiet.send_all(b"x")
        assert await quiet.receive_some() == b"x"
        assert await quiet.receive_some() == b""
        await quiet.aclose()
        assert trio.current_time() == begun + 20
        with trio.fail_after(5):
            await server.drain()
            assert await silent.receive_some() == b""
        await silent.aclose()
    assert ended(server.statistics()) == {"drained": 2}


async def test_a_reply_that_does_not_fit_arrives_whole(conversation: str) -> None:
    """By the pump, which keeps the rest of it, the reply after it is the last."""
    size = 2**24
    async with techo.open_server(
        "127.0.0.1:0", reply=lambda chunk: bytes(size) if chunk == b"long" else chunk
    ) as server:
        stream = await connect(server)
        server.leave()
        await stream.send_all(b"long")
        left = size
        with trio.fail_after(PATIENCE):
            while left:
                left -= len(await stream.receive_some())
            if conversation == "pump":
                await stream.send_all(b"short")
                assert await stream.receive_some() == b"short"
            assert await stream.receive_some() == b""
        await stream.aclose()
        assert ended(await until_ended(server, 1)) == {"drained": 1}


async def test_the_last_reply_waits_for_its_end(
    conversation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both arrive together, so that nobody sends anything behind it."""
    if conversation != "pump" or not hasattr(socket, "TCP_CORK"):
        pytest.skip("Linux joins the two")
    seen: list[list[trio.socket.SocketType]] = []
    half_close = Pump.half_close

    def look_first(pump: Pump, pumped: PumpedSocket) -> None:
        seen.append(select.select([stream.socket], [], [], 0)[0])
        half_close(pump, pumped)

    monkeypatch.setattr(Pump, "half_close", look_first)
    async with techo.open_server("127.0.0.1:0", reply=techo.raw) as server:
        stream = await connect(server)
        server.leave()
        await stream.send_all(b"last")
        assert await until_end(StreamTransport(stream)) == b"last"
        await stream.aclose()
    assert seen == [[]]


async def test_a_bulk_over_tls_ends_between_two_records(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """What comes back is what was sent, however much of it was stuck when the server left."""
    data = os.urandom(2**16) * 256

    async def send() -> None:
        try:
            await client.send(data)
        except trio.BrokenResourceError:
            return  # the server has closed

    async with (
        techo.open_server("tls://127.0.0.1:0", reply=bytes, tls=server_tls) as server,
        trio.open_nursery() as nursery,
    ):
        below = StreamTransport(await connect(server))
        client = TlsTransport(below, client_tls, server_hostname="localhost")
        await client.handshake()
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked(0.1)
        server.leave()
        received = await until_end(client)
        nursery.cancel_scope.cancel()
    await client.reset()
    assert received
    assert data.startswith(received)


async def test_what_ends_for_another_reason_says_so(
    patient_clock: trio.testing.MockClock,
) -> None:
    """A lame duck's connection that is idle for too long is idle, and was not drained."""
    limits = techo.Limits(idle_timeout=30, close_timeout=0)
    async with techo.open_server("127.0.0.1:0", reply=techo.raw, limits=limits) as server:
        stream = await connect(server)
        server.leave()
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert ended(await until_ended(server, 1)) == {"idle": 1}
