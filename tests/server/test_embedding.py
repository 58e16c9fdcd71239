"""What embedders bring: open listeners, hooks, and streams and logs that misbehave."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, open_descriptors, receive_until_end, until_ended
from techo._server.connection import Connection, Peer
from techo._server.hook import RefusedError, ServiceHook
from techo._transport.transport import Transport
from techo.testing import MemoryListener

ANY = "tcp://127.0.0.1:0"


async def trip(stream: trio.abc.Stream, data: bytes = b"hello") -> None:
    """Make one round trip."""
    await stream.send_all(data)
    assert await stream.receive_some() == data


async def test_open_listeners_are_served_like_endpoints(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """They get statistics and a drain; those with a socket are reported, with their kind."""
    memory = MemoryListener()
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    (below,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    secure = trio.SSLListener(below, server_tls)
    async with techo.open_server(memory, plain, ANY, secure, reply=techo.raw) as server:
        first, second, third = server.endpoints
        assert first.port == plain.socket.getsockname()[1]
        assert [each.kind for each in server.endpoints] == ["tcp", "tcp", "tls"]
        streams: list[trio.abc.Stream] = [
            await memory.connect(),
            await trio.open_tcp_stream("127.0.0.1", first.port),
            await trio.open_tcp_stream("127.0.0.1", second.port),
            await trio.open_ssl_over_tcp_stream(
                "127.0.0.1", third.port, ssl_context=client_tls
            ),
        ]
        for stream in streams:
            await trip(stream)
        await server.drain()
        assert server.endpoints == ()
        for stream in streams:
            assert await stream.receive_some() == b""
            await trio.aclose_forcefully(stream)
    assert ended(server.statistics()) == {"drained": 4}
    with pytest.raises(ConnectionRefusedError):
        await memory.connect()
    assert plain.socket.fileno() == -1


async def test_an_open_listener_is_closed_even_if_serving_never_begins() -> None:
    """It belongs to the call from the beginning, whatever is wrong with it."""
    before = await open_descriptors()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with pytest.raises(ValueError, match="bad endpoint"):
        async with techo.open_server(listener, "no endpoint"):
            raise AssertionError("it can't be listening")
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with pytest.raises(ValueError, match="only once"):
        async with techo.open_server(listener, listener):
            raise AssertionError("it can't be listening")
    assert await open_descriptors() == before


async def test_limits_hold_for_an_open_listener(nursery: trio.Nursery) -> None:
    """`max_connections` refuses there, too."""
    listener = MemoryListener()
    service = techo.EchoService(techo.raw, limits=techo.Limits(max_connections=1))
    assert await nursery.start(service.serve, listener) == ()
    first, second = await listener.connect(), await listener.connect()
    await trip(first)
    assert await receive_until_end(second) == b""
    assert ended(service.statistics()) == {"refused": 1}
    await first.aclose()
    await service.drain()


async def test_a_fault_that_an_open_listener_cannot_have_is_refused() -> None:
    """It is refused as for endpoints, before anything is accepted."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for each in (listener, MemoryListener()):
        with pytest.raises(ValueError, match="cannot happen on"):
            async with techo.open_server(each, faults=[techo.testing.NoCloseNotify()]):
                raise AssertionError("it can't be listening")


@attrs.define(eq=False)
class Hook(ServiceHook):
    """Believes that the first line of a connection is its address, and notes everything."""

    sockets: list[bool] = attrs.field(factory=list)
    outcomes: list[str] = attrs.field(factory=list)

    def socket_opened(self, sock: object, *, listening: bool) -> None:
        """Note whether it is a listening one."""
        assert hasattr(sock, "setsockopt")
        self.sockets.append(listening)

    async def identify(self, transport: Transport, peer: Peer) -> Peer:
        """Receive a line, but nothing behind it."""
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := await transport.receive(1)):
                raise trio.BrokenResourceError("no line")
            line += byte
        host = line.decode().strip()
        if host == "bug":
            raise RuntimeError("as planned")
        if host == "denied":
            raise RefusedError("as planned")
        return Peer(f"{host} by {peer.host}", host)

    def connection_ended(self, connection: Connection) -> None:
        """Note how it has ended."""
        self.outcomes.append(f"{connection.peer.name}: {connection.outcome}")
        if connection.peer.host == "10.0.0.9":
            raise RuntimeError("as planned")


@pytest.mark.parametrize("conversation", ["pump", "portable"], indirect=True)
async def test_a_hook_finds_out_who_is_at_the_other_end(
    conversation: str, nursery: trio.Nursery
) -> None:
    """Limits go by the address that it returns; what it received is not echoed."""
    hook = Hook()
    limits = techo.Limits(max_per_host=1)
    service = techo.EchoService(techo.raw, limits=limits, hook=hook)
    (endpoint,) = await nursery.start(service.serve, ANY)

    async def come(host: str) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
        await stream.send_all(host.encode() + b"\nhello")
        return stream

    one, other = await come("10.0.0.1"), await come("10.0.0.2")
    for stream in (one, other):
        assert await stream.receive_some() == b"hello"
    for count, host in enumerate(("10.0.0.1", "denied", "bug"), 1):
        await receive_all(await come(host))
        await until_ended(service, count)
    for count, stream in enumerate((one, other), 4):
        await stream.aclose()
        await until_ended(service, count)
    assert hook.sockets == [True] + [False] * 5
    words = ["refused", "refused", "crashed", "eof", "eof"]
    assert [each.rpartition(": ")[2] for each in hook.outcomes] == words
    named = [each.partition(" by ")[0] for each in hook.outcomes if " by " in each]
    assert named == ["10.0.0.1", "10.0.0.1", "10.0.0.2"]
    assert ended(service.statistics()) == {"refused": 2, "crashed": 1, "eof": 2}
    nursery.cancel_scope.cancel()


async def receive_all(stream: trio.SocketStream) -> None:
    """Wait for the end, which is a reset if the server has left something unread."""
    with contextlib.suppress(trio.BrokenResourceError):
        assert await receive_until_end(stream) == b""
    await stream.aclose()


async def test_a_hook_has_the_time_of_a_handshake(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A peer that does not say who it is ends as idle; one that does has the usual time."""
    limits = techo.Limits(handshake_timeout=3, idle_timeout=60)
    service = techo.EchoService(techo.raw, limits=limits, hook=Hook())
    listener = MemoryListener()
    await nursery.start(service.serve, listener)
    start = trio.current_time()
    silent = await listener.connect()
    assert await silent.receive_some() == b""
    assert trio.current_time() - start == 3
    await silent.aclose()
    start = trio.current_time()
    named = await listener.connect()
    await named.send_all(b"10.0.0.1\n")
    assert await named.receive_some() == b""
    assert trio.current_time() - start == 60
    await named.aclose()
    await service.drain()
    assert ended(service.statistics()) == {"idle": 2}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_hook_comes_before_tls(
    tls: bool,  # noqa: FBT001  -- a parameter of the test
    nursery: trio.Nursery,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """It reads what comes first, and the handshake begins behind that."""
    service = techo.EchoService(techo.raw, tls=server_tls, hook=Hook())
    kind = "tls" if tls else "tcp"
    (endpoint,) = await nursery.start(service.serve, f"{kind}://127.0.0.1:0")
    below = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
    await below.send_all(b"10.0.0.9\n")
    stream: trio.abc.Stream = below
    if tls:
        stream = trio.SSLStream(below, client_tls, server_hostname="127.0.0.1")
    with trio.fail_after(PATIENCE):
        await trip(stream)
        await stream.aclose()
    assert ended(await until_ended(service, 1)) == {"eof": 1}
    nursery.cancel_scope.cancel()


async def test_a_hook_also_sees_other_sockets(
    tmp_path: Path, server_tls: ssl.SSLContext
) -> None:
    """The hook sees every socket that is bound, those of open listeners among them."""
    hook = Hook()
    places = ("udp://127.0.0.1:0", f"unix:{tmp_path}/s", f"unixgram:{tmp_path}/g")
    (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    (below,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listeners = (plain, trio.SSLListener(below, server_tls), MemoryListener())
    async with techo.open_server(*places, *listeners, hook=hook):
        assert hook.sockets == [True] * 5


async def test_what_a_hook_raises_is_logged_as_the_hook_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is no failure of the reply function."""
    listener = MemoryListener()
    async with techo.open_server(listener, hook=Hook()) as server:
        stream = await listener.connect()
        await stream.send_all(b"bug\n")
        assert await receive_until_end(stream) == b""
        await stream.aclose()
    assert ended(server.statistics()) == {"crashed": 1}
    errors = [each.getMessage() for each in caplog.records if each.exc_info]
    assert errors == ["the hook for MemoryStream failed"]


class Spiteful(trio.abc.Stream):
    """A stream on which nothing works, not even closing."""

    async def send_all(self, data: object) -> None:
        """Fail."""
        raise RuntimeError(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Fail."""
        raise RuntimeError("no waiting")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Fail."""
        raise RuntimeError(max_bytes)

    async def aclose(self) -> None:
        """Fail."""
        raise RuntimeError("no closing")


@pytest.fixture
def spiteful_log() -> Iterator[None]:
    """Give the log a filter that raises."""
    log = logging.getLogger("techo.server")
    level = log.level

    def refuse(record: logging.LogRecord) -> bool:
        raise RuntimeError(record)

    log.addFilter(refuse)
    log.setLevel(logging.DEBUG)
    yield
    log.removeFilter(refuse)
    log.setLevel(level)


@pytest.mark.parametrize("most", [1, 10_000], ids=["refused", "admitted"])
async def test_handle_never_raises_whatever_the_stream_does(most: int) -> None:
    """Each connection is counted, and a drain does not wait for it."""
    service = techo.EchoService(limits=techo.Limits(max_connections=most))
    async with trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(service.handle, theirs)
        await trio.testing.wait_all_tasks_blocked()
        await service.handle(Spiteful())
        await ours.aclose()
    with trio.fail_after(PATIENCE):
        await service.drain()
    outcome = "refused" if most == 1 else "crashed"
    assert ended(service.statistics()) == {outcome: 1, "eof": 1}


@pytest.mark.usefixtures("spiteful_log")
@pytest.mark.parametrize("stream", ["good", "spiteful"])
async def test_nor_whatever_the_log_does(stream: str) -> None:
    """A filter that raises costs nobody a byte and leaks no connection."""
    service = techo.EchoService(techo.raw)
    if stream == "spiteful":
        await service.handle(Spiteful())
    else:
        async with trio.open_nursery() as nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(service.handle, theirs)
            await trip(ours)
            await ours.send_eof()
            assert await ours.receive_some() == b""
    with trio.fail_after(PATIENCE):
        await service.drain()
    assert ended(service.statistics()) == {"eof" if stream == "good" else "crashed": 1}


@pytest.mark.usefixtures("spiteful_log")
async def test_nor_do_datagrams_care_about_the_log() -> None:
    """A reply that fails, and an error about an earlier answer, cost one datagram each."""

    def reply(data: bytes) -> bytes:
        if data == b"x":
            raise RuntimeError("as planned")
        return data

    async with techo.open_server("udp://127.0.0.1:0", reply=reply) as server:
        address = (server.endpoints[0].host, server.endpoints[0].port)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as gone:
            await gone.sendto(b"gone before it is answered", address)
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            for data in (b"x", b"y"):
                await sock.sendto(data, address)
            with trio.fail_after(PATIENCE):
                assert await sock.recv(10) == b"y"


async def test_what_is_no_stream_is_no_reason_to_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, because somebody has a bug."""
    service = techo.EchoService()
    broken = trio.SSLStream.__new__(trio.SSLStream)
    await service.handle(broken)
    assert service.statistics().accepted == 0
    assert [bool(record.exc_info) for record in caplog.records] == [True]


class Sticky(MemoryListener):
    """A listener that cannot be closed without an error."""

    async def aclose(self) -> None:
        """Fail, without a checkpoint, where a cancellation would come first."""
        raise RuntimeError("as planned")


async def test_a_listener_that_fails_to_close_costs_nobody_a_byte(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The drain goes on, and the log has what went wrong."""
    listener = Sticky()
    async with techo.open_server(listener, reply=techo.raw) as server:
        stream = await listener.connect()
        await trip(stream)
        await stream.send_all(b"on its way")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert await receive_until_end(stream) == b"on its way"
            await stream.aclose()
    assert ended(server.statistics()) == {"drained": 1}
    assert "as planned" in caplog.text
