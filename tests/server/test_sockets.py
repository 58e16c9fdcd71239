"""The server on real sockets: half-close, resets, limits, descriptors, drain under load."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import functools
import os
import socket
from collections.abc import Sequence

import pytest
import trio
import trio.testing

import techo
from helpers import (
    PATIENCE,
    connect,
    ended,
    open_descriptors,
    receive_until_end,
    reset,
    send_to_end,
    until,
    until_ended,
)
from techo._server import draining, listening

ANY = "tcp://127.0.0.1:0"

pytestmark = pytest.mark.usefixtures("conversation")


async def test_a_bare_serve_tcp_is_the_whole_embedding(nursery: trio.Nursery) -> None:
    """`trio.serve_tcp(service.handle, ...)` carries limits and statistics."""
    service = techo.EchoService(limits=techo.Limits(max_connections=1))
    serve = functools.partial(trio.serve_tcp, service.handle, 0, host="127.0.0.1")
    (listener,) = await nursery.start(serve)
    port = listener.socket.getsockname()[1]
    async with techo.open_client(f"127.0.0.1:{port}") as client:
        assert len((await client.round_trip(b"hello")).stamps) == 1
        async with await trio.open_tcp_stream("127.0.0.1", port) as refused:
            assert await refused.receive_some() == b""
    assert ended(await until_ended(service, 2)) == {"eof": 1, "refused": 1}
    await service.drain()
    nursery.cancel_scope.cancel()


async def test_star_is_both_families_on_one_port() -> None:
    """A wildcard on a free port gives the same port twice, also after a collision."""
    async with techo.open_server("*:0", reply=techo.raw) as server:
        four, six = server.endpoints
        assert (four.host, six.host) == ("0.0.0.0", "::")  # noqa: S104  -- what * means
        assert four.port == six.port != 0
        for host in ("127.0.0.1", "::1"):
            async with techo.open_client(techo.Endpoint(host, four.port)) as client:
                assert (await client.round_trip(host.encode())).reply == host.encode()
    assert server.endpoints == ()


async def test_a_port_that_only_one_family_has_free_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the other family's port is taken, both are bound anew elsewhere."""
    taken: list[socket.socket] = []
    open_tcp_listeners = trio.open_tcp_listeners

    async def take_it_first(
        port: int, *, host: str, backlog: int | None
    ) -> Sequence[trio.SocketListener]:
        if host == "::" and not taken:
            taken.append(socket.create_server(("::", port), family=socket.AF_INET6))
        return await open_tcp_listeners(port, host=host, backlog=backlog)

    monkeypatch.setattr(trio, "open_tcp_listeners", take_it_first)
    async with techo.open_server("*:0") as server:
        four, six = server.endpoints
        assert four.port == six.port != taken[0].getsockname()[1]
    taken[0].close()


async def test_a_missing_family_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where IPv6 is off, * is IPv4, and an IPv6 address is an error."""
    open_tcp_listeners = trio.open_tcp_listeners

    async def no_ipv6(
        port: int, *, host: str, backlog: int | None
    ) -> Sequence[trio.SocketListener]:
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6 here")
        return await open_tcp_listeners(port, host=host, backlog=backlog)

    monkeypatch.setattr(trio, "open_tcp_listeners", no_ipv6)
    async with techo.open_server("*:0") as server:
        assert [each.host for each in server.endpoints] == ["0.0.0.0"]  # noqa: S104  -- likewise
    with pytest.raises(OSError, match="no IPv6 here"):
        async with techo.open_server("[::1]:0"):
            raise AssertionError("it can't be listening")


async def test_several_endpoints_and_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts and Endpoints mix; a name is looked up; none at all is the tutorial's address."""
    async with techo.open_server(ANY, techo.Endpoint("::1", 0), "localhost:0") as server:
        assert server.endpoints[0].host == "127.0.0.1"
        assert server.endpoints[1].host == "::1"
        assert len(server.endpoints) >= 3
    bound: list[techo.Endpoint] = []

    async def pretend(endpoint: techo.Endpoint) -> list[str]:
        await trio.lowlevel.checkpoint()
        bound.append(endpoint)
        raise OSError(errno.EADDRINUSE, "enough seen")

    monkeypatch.setattr(listening, "addresses", pretend)
    with pytest.raises(OSError, match="enough seen"):
        async with techo.open_server():
            raise AssertionError("it can't be listening")
    assert bound == [techo.Endpoint("127.0.0.1", 8009)]


async def test_a_port_in_use_is_a_bare_os_error_that_names_the_endpoint() -> None:
    """The error is in no group, names the endpoint, and nothing is left listening."""
    before = await open_descriptors()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use") as caught:
            async with techo.open_server(ANY, busy):
                raise AssertionError("it can't be listening")
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == busy
    assert await open_descriptors() == before


async def test_an_unknown_host_is_a_gaierror_that_names_the_endpoint() -> None:
    """The name service's own error comes out."""
    with pytest.raises(socket.gaierror) as caught:
        async with techo.open_server("no-such-host.invalid:1"):
            raise AssertionError("it can't be listening")
    assert caught.value.filename == "tcp://no-such-host.invalid:1"


@pytest.mark.parametrize(
    "error",
    [KeyError("mine"), ExceptionGroup("mine", [KeyError(1), OSError(2)])],
    ids=["one", "group"],
)
async def test_what_the_block_raises_comes_out_bare_and_everything_is_closed(
    error: Exception,
) -> None:
    """An embedder's own error is in no group but the one it may be."""
    before = await open_descriptors()
    with pytest.raises(type(error), match="mine") as raised:
        async with techo.open_server(ANY) as server, await connect(server):
            raise error
    assert raised.value is error
    assert await open_descriptors() == before
    assert server.statistics().active == 0


async def test_half_close_gets_every_pending_reply() -> None:
    """A peer that finished sending still receives everything, then end-of-file."""
    data = bytes(range(256)) * 4096
    async with (
        techo.open_server(ANY, reply=techo.raw) as server,
        await connect(server) as stream,
    ):
        assert await send_to_end(stream, data) == data
        assert ended(await until_ended(server, 1)) == {"eof": 1}


@pytest.mark.parametrize("size", [1, 15, 16, 17, 24, 32, 500])
async def test_an_end_that_arrives_with_the_last_bytes_is_seen(size: int) -> None:
    """The end is seen however many receives the bytes take, a full last one included."""
    limits = techo.Limits(receive_size=16)
    async with (
        techo.open_server(ANY, reply=techo.raw, limits=limits) as server,
        await connect(server) as stream,
    ):
        await stream.send_all(b"first")
        assert await stream.receive_some() == b"first"
        os.write(stream.socket.fileno(), bytes(size))  # no checkpoint between it and the end
        stream.socket.shutdown(socket.SHUT_WR)
        with trio.fail_after(PATIENCE):
            assert await receive_until_end(stream) == bytes(size)


async def test_progress_in_either_direction_keeps_a_connection_alive(
    patient_clock: trio.testing.MockClock,
) -> None:
    """Small messages and a reply read slowly go on far longer than the idle timeout."""
    limits = techo.Limits(idle_timeout=0.5)
    async with (
        techo.open_server(ANY, reply=techo.raw, limits=limits) as server,
        await connect(server) as stream,
        trio.open_nursery() as nursery,
    ):
        for _ in range(6):
            await trio.sleep(0.1)
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        size = 2**23
        nursery.start_soon(stream.send_all, bytes(size))
        received = 0
        while received < size:
            if server.statistics().bytes_out < size:  # or nothing need move any more
                await trio.sleep(0.1)
            received += len(await stream.receive_some(2**20))
        await stream.send_eof()
        assert ended(await until_ended(server, 1)) == {"eof": 1}


async def test_drain_sends_the_rest_of_a_reply_that_was_stuck(
    patient_clock: trio.testing.MockClock,
) -> None:
    """A peer that begins to read only then gets all of it."""
    size = 2**23
    limits = techo.Limits(receive_size=10)
    async with (
        techo.open_server(ANY, reply=lambda _: bytes(size), limits=limits) as server,
        await connect(server) as stream,
        trio.open_nursery() as nursery,
    ):
        await stream.send_all(b"x")
        await until(lambda: server.statistics().bytes_out)
        nursery.start_soon(server.drain)
        await trio.sleep(0.3)  # longer than a drain waits for a pause: what is owed stays owed
        with trio.fail_after(limits.drain_timeout / 2):
            assert len(await receive_until_end(stream)) == size
        await stream.aclose()
        assert ended(await until_ended(server, 1)) == {"drained": 1}


async def test_an_early_end_is_end_of_file_not_a_reset(
    patient_clock: trio.testing.MockClock,
) -> None:
    """What arrives during the graceful close is discarded, so the reply survives."""
    limits = techo.Limits(lifetime=0.2, close_timeout=5)
    async with (
        techo.open_server(ANY, reply=techo.raw, limits=limits) as server,
        await connect(server) as stream,
    ):
        await stream.send_all(b"hello")
        assert await receive_until_end(stream) == b"hello"
        for _ in range(50):
            await stream.send_all(b"is anybody there?")
        await stream.send_eof()
        assert ended(await until_ended(server, 1)) == {"expired": 1}


async def test_a_reset_during_the_graceful_close_changes_nothing() -> None:
    """The outcome is what ended the conversation, and the others are served on."""
    limits = techo.Limits(lifetime=0.05, close_timeout=60)
    async with (
        techo.open_server(ANY, reply=techo.raw, limits=limits) as server,
        await connect(server) as stream,
    ):
        assert await stream.receive_some() == b""
        reset(stream)
        assert ended(await until_ended(server, 1)) == {"expired": 1}


async def test_a_reset_at_any_moment_is_one_outcome_and_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A reset may come after connecting, in mid-message, in mid-reply or after an end."""
    caplog.set_level("DEBUG", "techo")
    async with techo.open_server(ANY, reply=techo.raw) as server:
        for index in range(200):
            stream = await connect(server)
            if index % 4 >= 1:
                await stream.send_all(b"x" * 100_000)
            if index % 4 >= 2:
                await stream.receive_some(1)
            if index % 4 >= 3:
                await stream.send_eof()
            reset(stream)
        statistics = await until_ended(server, 200)
        assert statistics.outcomes[techo.Outcome.RESET] >= 150
        assert set(ended(statistics)) <= {"reset", "eof"}
        assert statistics.active == 0
    assert not [record for record in caplog.records if record.exc_info]
    closed = [each for each in caplog.records if each.getMessage().startswith("closed ")]
    assert len(closed) == 200


async def test_max_per_host_counts_addresses() -> None:
    """One address beyond its share is refused, and another is served."""
    limits = techo.Limits(max_per_host=2)
    async with (
        techo.open_server(ANY, limits=limits) as server,
        contextlib.AsyncExitStack() as stack,
    ):
        port = server.endpoints[0].port
        for _ in range(2):
            client = await stack.enter_async_context(techo.open_client(server.endpoints[0]))
            await client.round_trip(b"x")
        async with await connect(server) as third:
            assert await third.receive_some() == b""
        other = await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2")
        await techo.EchoClient(other).round_trip(b"x")
        await other.aclose()
        assert ended(await until_ended(server, 2)) == {"refused": 1, "eof": 1}
    assert not server._service.registry._per_host


async def test_a_peer_on_a_dual_stack_socket_is_known_by_its_ipv4_address(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """The address ::ffff:127.0.0.1 counts as 127.0.0.1, for limits and in the log."""
    caplog.set_level("INFO", "techo")
    sock = trio.socket.socket(socket.AF_INET6)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    await sock.bind(("::", 0))
    sock.listen()
    service = techo.EchoService()
    nursery.start_soon(trio.serve_listeners, service.handle, [trio.SocketListener(sock)])
    for host in ("127.0.0.1", "::1"):
        async with await trio.open_tcp_stream(host, sock.getsockname()[1]):
            pass
    await until_ended(service, 2)
    first, second = (each for each in caplog.messages if each.startswith("connected"))
    assert first.startswith("connected 127.0.0.1:")
    assert second.startswith("connected [::1]:")
    nursery.cancel_scope.cancel()


async def test_a_unix_socket_has_a_peer_without_address(nursery: trio.Nursery) -> None:
    """The handler takes any socket that an embedder has."""
    ours, theirs = trio.socket.socketpair()
    service = techo.EchoService(techo.raw, limits=techo.Limits(max_per_host=1))
    nursery.start_soon(service.handle, trio.SocketStream(theirs))
    async with trio.SocketStream(ours) as stream:
        assert (await techo.EchoClient(stream).round_trip(b"hello")).reply == b"hello"
    nursery.cancel_scope.cancel()


async def test_drain_under_load_sends_every_pending_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every client in mid-message gets all of it; the listener is closed first."""
    # A machine that is busy makes longer pauses in the middle of messages.
    monkeypatch.setattr(draining, "_QUIET", 1.0)
    limits = techo.Limits(drain_timeout=PATIENCE)
    data = bytes(range(256)) * 1024
    async with (
        techo.open_server(ANY, reply=techo.raw, limits=limits) as server,
        trio.open_nursery() as nursery,
    ):
        endpoint = server.endpoints[0]
        begun = [trio.Event() for _ in range(50)]
        back: list[bytes] = []

        async def one(event: trio.Event) -> None:
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
            async with stream, trio.open_nursery() as both:
                await stream.send_all(data[:1000])
                event.set()
                both.start_soon(stream.send_all, data[1000:])
                back.append(await receive_until_end(stream))

        for event in begun:
            nursery.start_soon(one, event)
        for event in begun:
            await event.wait()
        await server.drain()
        assert server.endpoints == ()
        with pytest.raises(OSError, match="all attempts to connect"):
            await trio.open_tcp_stream(endpoint.host, endpoint.port)
        assert set(ended(server.statistics())) == {"drained"}
    assert back == [data] * 50


async def test_what_the_block_raises_while_it_is_cancelled_is_not_lost() -> None:
    """The error survives a cancellation at the same time, and comes out bare."""

    async def fail_while_cancelled() -> None:
        with trio.CancelScope() as scope:
            async with techo.open_server(ANY):
                scope.cancel()  # as soon as it serves
                try:
                    await trio.sleep_forever()
                finally:
                    raise KeyError("on the way out")

    with pytest.raises(KeyError):
        await fail_while_cancelled()


async def test_leaving_the_block_drains(patient_clock: trio.testing.MockClock) -> None:
    """An idle client gets end-of-file, and its reply before that."""
    with trio.CancelScope(shield=True):
        async with techo.open_server(ANY, reply=techo.raw) as server:
            stream = await connect(server)
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
        assert await stream.receive_some() == b""
        await stream.aclose()
    assert ended(server.statistics()) == {"drained": 1}


async def test_cancelling_serve_aborts_everything() -> None:
    """Cancellation from outside is not a drain."""
    service = techo.EchoService()
    async with trio.open_nursery() as inner:
        (endpoint,) = await inner.start(service.serve, ANY)
        async with techo.open_client(endpoint) as client:
            await client.round_trip(b"x")
            inner.cancel_scope.cancel()
    assert ended(service.statistics()) == {"aborted": 1}


def test_two_runs_in_two_threads_and_one_after_another() -> None:
    """Nothing in the package belongs to one run."""

    async def main() -> None:
        async with (
            techo.open_server(ANY) as server,
            techo.open_client(server.endpoints[0]) as client,
        ):
            await client.round_trip(b"x")

    def run_twice() -> None:
        trio.run(main)
        trio.run(main)

    with concurrent.futures.ThreadPoolExecutor() as threads:
        for done in [threads.submit(run_twice) for _ in range(2)]:
            done.result()
