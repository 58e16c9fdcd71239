"""Every kind of connection: the same outcomes, limits and drain, over both conversations."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, until_ended
from techo._transport.connect import connect
from techo._transport.messages import LARGEST_PACKET
from techo._transport.transport import Transport

pytestmark = pytest.mark.usefixtures("conversation")

CONNECTIONS = [techo.Kind.TCP, techo.Kind.TLS, techo.Kind.UNIX, techo.Kind.UNIXPACKET]
every_connection = pytest.mark.parametrize("kind", CONNECTIONS, indirect=True)

Dial = Callable[[techo.EchoService], Awaitable[Transport]]


@pytest.fixture
def dial(kind: techo.Kind, client_tls: ssl.SSLContext) -> Dial:
    """Return a function that connects to a server of that kind."""

    async def dialled(server: techo.EchoService) -> Transport:
        tls = client_tls if kind is techo.Kind.TLS else None
        return (await connect(server.endpoints[0], tls=tls)).transport

    return dialled


async def finish(stream: Transport) -> None:
    """Half-close, as far as the kind can, and wait for the end."""
    if stream.half_closeable:
        await stream.send_eof()
        assert await stream.receive() is None
    await stream.aclose()


async def flood(stream: Transport) -> None:
    """Send for ever, without reading."""
    while True:
        await stream.send(bytes(50_000))


def fail(_: bytes) -> bytes:
    """A reply function with a fault."""
    raise RuntimeError("no")


@every_connection
async def test_what_passes_is_counted_and_the_end_is_an_end(
    address: str, server_tls: ssl.SSLContext, dial: Dial
) -> None:
    """Chunks, bytes in and bytes out are counted, and there is one outcome."""
    async with techo.open_server(address, tls=server_tls) as server:
        stream = await dial(server)
        with trio.fail_after(PATIENCE):
            for message in (b"one", b"three", b"five!"):
                await stream.send(message)
                assert (await stream.receive() or b"").endswith(b"] " + message)
            await finish(stream)
        found = await until_ended(server, 1)
    assert ended(found) == {"eof": 1}
    assert (found.chunks, found.bytes_in, found.bytes_out) == (3, 13, 13 + 3 * 27)


@every_connection
@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        (techo.Limits(idle_timeout=5), "idle"),
        (techo.Limits(lifetime=5), "expired"),
    ],
)
async def test_silence_ends_on_time(  # noqa: PLR0917  -- parameters and fixtures
    address: str,
    server_tls: ssl.SSLContext,
    dial: Dial,
    limits: techo.Limits,
    outcome: str,
    patient_clock: trio.testing.MockClock,
) -> None:
    """The peer sees an end, not a reset."""
    async with techo.open_server(address, tls=server_tls, limits=limits) as server:
        stream = await dial(server)
        with trio.fail_after(PATIENCE):
            assert await stream.receive() is None
            await stream.aclose()
        assert ended(await until_ended(server, 1)) == {outcome: 1}


@every_connection
async def test_a_peer_that_never_reads_is_stalled(
    address: str,
    server_tls: ssl.SSLContext,
    dial: Dial,
    patient_clock: trio.testing.MockClock,
) -> None:
    """It is aborted after the idle timeout, and costs one reply."""
    limits = techo.Limits(idle_timeout=5)
    async with techo.open_server(
        address, tls=server_tls, limits=limits, reply=techo.raw
    ) as server:
        stream = await dial(server)
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            await flood(stream)
        await trio.aclose_forcefully(stream)
        assert ended(await until_ended(server, 1)) == {"stalled": 1}


@every_connection
async def test_one_too_many_is_refused(
    address: str, server_tls: ssl.SSLContext, dial: Dial
) -> None:
    """The second is closed at once; the first stays."""
    limits = techo.Limits(max_connections=1)
    async with techo.open_server(address, tls=server_tls, limits=limits) as server:
        first = await dial(server)
        with trio.fail_after(PATIENCE):
            await first.send(b"first")
            assert (await first.receive() or b"").endswith(b"first")
            try:
                async with await dial(server) as second:
                    assert await second.receive() is None
            except (OSError, trio.BrokenResourceError):
                assert address.startswith("tls")  # whose handshake is cut short
            assert ended(await until_ended(server, 1)) == {"refused": 1}
            await finish(first)


@every_connection
async def test_a_reply_that_raises_ends_its_own_connection(
    address: str, server_tls: ssl.SSLContext, dial: Dial
) -> None:
    """The server goes on serving others."""
    async with techo.open_server(address, tls=server_tls, reply=fail) as server:
        for count in (1, 2):
            stream = await dial(server)
            await stream.send(b"x")
            assert ended(await until_ended(server, count)) == {"crashed": count}
            await trio.aclose_forcefully(stream)


@every_connection
async def test_a_drain_lets_go_of_the_quiet_at_once_and_of_the_busy_between_two_messages(
    address: str, server_tls: ssl.SSLContext, dial: Dial, patient_clock: trio.testing.MockClock
) -> None:
    """No peer gets half a message."""
    message = bytes(range(256)) * 200
    torn: list[int] = []

    async def chat(stream: Transport, busy: trio.Event) -> None:
        back = len(message)
        try:
            while back == len(message):
                await stream.send(message)
                back = 0
                while back < len(message) and (chunk := await stream.receive()):
                    back += len(chunk)
                busy.set()
        except trio.BrokenResourceError:
            pass  # it was told to go while it was sending
        if 0 < back < len(message):
            torn.append(back)

    async with techo.open_server(address, tls=server_tls, reply=techo.raw) as server:
        streams = [await dial(server) for _ in range(6)]
        async with trio.open_nursery() as nursery:
            for stream in streams[:3]:
                nursery.start_soon(chat, stream, busy := trio.Event())
                await busy.wait()
            with trio.fail_after(PATIENCE):
                await server.drain()
        for stream in streams:
            await trio.aclose_forcefully(stream)
    assert torn == []
    assert ended(server.statistics()) == {"drained": 6}


@every_connection
async def test_cancelling_aborts(address: str, server_tls: ssl.SSLContext, dial: Dial) -> None:
    """A cancelled connection counts as aborted, whatever it was doing."""
    service = techo.EchoService(tls=server_tls)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.serve, address)
        stream = await dial(service)
        await stream.send(b"x")
        assert await stream.receive()
        nursery.cancel_scope.cancel()
    assert ended(service.statistics()) == {"aborted": 1}
    await trio.aclose_forcefully(stream)


only_packets = pytest.mark.parametrize("kind", [techo.Kind.UNIXPACKET], indirect=True)


@only_packets
@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
async def test_messages_that_arrive_at_once_keep_their_bounds(
    address: str, dial: Dial, reply: techo.Reply
) -> None:
    """Each message gets one reply, in order, however short and however many they are."""
    messages = [os.urandom(size) for size in (1, 2, 60_000, 1, 500, 3, 3, 3, 70_000, 1)]
    async with techo.open_server(address, reply=reply) as server:
        stream = await dial(server)
        await stream.send(b"first")
        assert (await stream.receive() or b"").endswith(b"first")
        assert stream.socket is not None
        for message in messages:
            os.write(stream.socket.fileno(), message)  # no checkpoint: they wait together
        with trio.fail_after(PATIENCE):
            for message in messages:
                answer = await stream.receive() or b""
                assert answer.endswith(message)
                assert len(answer) - len(message) == (27 if reply is techo.stamped else 0)
            await finish(stream)
        assert (await until_ended(server, 1)).chunks == len(messages) + 1


async def test_messages_beside_streams_with_chunks_as_long_as_their_buffer(
    tmp_path: Path,
) -> None:
    """A short receive is understood for streams and for messages in the same batch."""
    limits = techo.Limits(receive_size=LARGEST_PACKET + 1)
    endpoints = ("tcp://127.0.0.1:0", f"unixpacket:{tmp_path}/s")
    async with techo.open_server(*endpoints, reply=techo.raw, limits=limits) as server:
        streams = [
            (await connect(each)).transport for _ in range(5) for each in server.endpoints
        ]
        for stream in streams:
            await stream.send(b"first")
            assert await stream.receive() == b"first"
        for stream in streams:
            assert stream.socket is not None
            for _ in range(2):
                os.write(stream.socket.fileno(), b"hello")  # no checkpoint: all in one batch
        with trio.fail_after(PATIENCE):
            for stream in streams:
                back = b""
                while len(back) < 10:
                    back += await stream.receive() or b""
                await trio.aclose_forcefully(stream)


@only_packets
async def test_an_empty_message_is_the_end(address: str, dial: Dial) -> None:
    """An empty message counts as the end; what was sent before it is answered."""
    async with techo.open_server(address, reply=techo.raw) as server:
        stream = await dial(server)
        assert stream.socket is not None
        os.write(stream.socket.fileno(), b"before")
        os.write(stream.socket.fileno(), b"")
        with trio.fail_after(PATIENCE):
            assert await stream.receive() == b"before"
            assert await stream.receive() is None
        assert ended(await until_ended(server, 1)) == {"eof": 1}
        await stream.aclose()


@only_packets
async def test_the_longest_message_comes_back_stamped(address: str, dial: Dial) -> None:
    """A message as long as a peer can send without changing its buffers is answered."""
    async with techo.open_server(address) as server:
        stream = await dial(server)
        data = os.urandom(stream.largest or 0)
        with trio.fail_after(PATIENCE):
            await stream.send(data)
            assert (await stream.receive() or b"")[27:] == data
        await stream.aclose()


@only_packets
async def test_a_message_that_is_too_long_ends_the_connection(address: str, dial: Dial) -> None:
    """It arrives in part only, and a part is not echoed."""
    async with techo.open_server(address, reply=techo.raw) as server:
        stream = await dial(server)
        assert stream.socket is not None
        assert stream.largest is not None
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        if stream.largest <= LARGEST_PACKET:
            pytest.skip("this system does not allow larger buffers")
        await stream.send(bytes(LARGEST_PACKET))
        assert len(await stream.receive() or b"") == LARGEST_PACKET
        await stream.send(bytes(LARGEST_PACKET + 1))
        assert ended(await until_ended(server, 1)) == {"reset": 1}
        await stream.aclose()


@only_packets
async def test_a_reply_too_long_for_a_message_is_a_fault_of_the_reply(
    address: str, dial: Dial, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection ends as crashed, with a traceback in the log."""
    async with techo.open_server(address, reply=lambda data: data * 1000) as server:
        stream = await dial(server)
        await stream.send(bytes(1000))
        assert ended(await until_ended(server, 1)) == {"crashed": 1}
        await stream.aclose()
    assert [bool(record.exc_info) for record in caplog.records] == [True]
