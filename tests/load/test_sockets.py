"""Load over sockets of every kind, by the pump and without: the server has seen the same."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn, TypeAlias

import pytest
import trio

import techo
from helpers import PATIENCE, ended, open_descriptors, until, until_ended
from loads import check, until_descriptors
from techo._probing.pump_driver import PumpDriver
from techo._probing.task_driver import TaskDriver
from techo._transport.messages import PacketTransport

Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[techo.EchoService]]

DATAGRAMS = {techo.Kind.UDP, techo.Kind.UNIXGRAM}
MESSAGES = {*DATAGRAMS, techo.Kind.UNIXPACKET}

pytestmark = pytest.mark.usefixtures("conversation")


@pytest.fixture
def serve(address: str, server_tls: ssl.SSLContext) -> Serve:
    """Opens a server there, for a block that does not last for ever."""

    @contextlib.asynccontextmanager
    async def serving(**options: Any) -> AsyncIterator[techo.EchoService]:
        options = {"reply": techo.raw, **options}
        async with techo.open_server(address, tls=server_tls, **options) as server:
            with trio.fail_after(PATIENCE):
                yield server

    return serving


@pytest.fixture
def trusting(kind: techo.Kind, client_tls: ssl.SSLContext) -> ssl.SSLContext | None:
    """Whom the client trusts, where that matters."""
    return client_tls if kind is techo.Kind.TLS else None


def received(server: techo.EchoService, kind: techo.Kind) -> tuple[int, int]:
    """How many bytes the server has seen, and how many messages, where it can tell."""
    statistics = server.statistics()
    if kind in DATAGRAMS:
        return statistics.datagrams.bytes_in, statistics.datagrams.received
    messages = statistics.chunks if kind is techo.Kind.UNIXPACKET else 0
    return statistics.bytes_in, messages


@pytest.mark.parametrize(
    ("reply", "pipeline", "rate"),
    [
        (techo.raw, 1, None),
        (techo.raw, 5, 4000),
        (techo.stamped, 1, 4000),
        (techo.stamped, 5, None),
    ],
)
async def test_the_server_has_seen_what_the_report_says(  # noqa: PLR0917  -- parameters and fixtures
    kind: techo.Kind,
    serve: Serve,
    trusting: ssl.SSLContext | None,
    reply: techo.Reply,
    pipeline: int,
    rate: float | None,
) -> None:
    """Every trip came back whole, stamped or not; there and back the bytes are the same."""
    async with serve(reply=reply) as server:
        report = check(
            await techo.load(
                server.endpoints[0],
                connections=4,
                pipeline=pipeline,
                rate=rate,
                trips=200,
                size=100,
                tls=trusting,
            )
        )
        assert (report.received, report.lost, report.unsent) == (200, 0, 0)
        assert (report.failures, report.reconnects) == ({}, 0)
        assert report.endpoint == str(server.endpoints[0])
        assert report.service.min > 0
        assert 0 < report.seconds < PATIENCE
        assert received(server, kind) == (20_000, 200 if kind in MESSAGES else 0)
        if kind in DATAGRAMS:
            assert server.statistics().datagrams.echoed == 200
        else:
            assert ended(await until_ended(server, 4)) == {"eof": 4}
            assert server.statistics().accepted == 4


async def test_for_some_time(
    kind: techo.Kind, serve: Serve, trusting: ssl.SSLContext | None
) -> None:
    """Nothing is lost on the way to the end, nor is anything counted twice."""
    async with serve() as server:
        report = check(
            await techo.load(server.endpoints[0], connections=3, seconds=0.2, tls=trusting)
        )
        assert report.received > 3
        assert report.lost == 0
        assert 0.1 < report.seconds < PATIENCE
        assert received(server, kind)[0] == report.received_bytes


@pytest.mark.parametrize("rate", [None, 300])
@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"], indirect=True)
async def test_large_messages_in_a_pipeline(
    serve: Serve, trusting: ssl.SSLContext | None, rate: float | None
) -> None:
    """More than any socket takes at once: the rest is sent while replies already come."""
    async with serve() as server:
        report = check(
            await techo.load(
                server.endpoints[0],
                connections=2,
                pipeline=4,
                size=1_000_000,
                trips=12,
                rate=rate,
                tls=trusting,
            )
        )
        assert (report.received, report.lost) == (12, 0)
        assert server.statistics().bytes_in == server.statistics().bytes_out == 12_000_000


async def test_a_socket_that_is_not_read_holds_what_it_owes() -> None:
    """What a peer does not take at once is sent when it does, in order, and in turns."""
    ours, theirs = trio.socket.socketpair()
    await trio.lowlevel.checkpoint()

    async def connect() -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        return trio.SocketStream(ours)

    async def answer_late(stream: trio.SocketStream) -> None:
        await until(lambda: not select.select([], [ours], [], 0)[1])
        async for chunk in stream:
            await stream.send_all(chunk)

    with trio.fail_after(PATIENCE):
        async with trio.SocketStream(theirs) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(answer_late, stream)
            report = check(
                await techo.load(connect, connections=1, size=2**21, pipeline=2, trips=7)
            )
            nursery.cancel_scope.cancel()
    assert (report.received, report.lost) == (7, 0)


async def test_cancellation_closes_all_connections(
    kind: techo.Kind, serve: Serve, trusting: ssl.SSLContext | None
) -> None:
    """In the middle of everything; no descriptor stays open."""
    async with serve() as server:
        before = await open_descriptors()
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await until(lambda: received(server, kind)[0] > 64 * 100)
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                await techo.load(server.endpoints[0], seconds=PATIENCE, tls=trusting)
        assert scope.cancelled_caught
        await until_descriptors(before)


@pytest.mark.parametrize("rate", [None, 1.0])
async def test_stopping(
    kind: techo.Kind, serve: Serve, trusting: ssl.SSLContext | None, rate: float | None
) -> None:
    """There is a report, and nothing is left: not of trips, not of descriptors."""
    stop = trio.Event()
    seen = 64 * (100 if rate is None else 1)
    async with serve() as server, trio.open_nursery() as nursery:
        before = await open_descriptors()

        async def stop_then() -> None:
            await until(lambda: received(server, kind)[0] >= seen)
            stop.set()

        nursery.start_soon(stop_then)
        report = check(
            await techo.load(
                server.endpoints[0], seconds=PATIENCE, stop=stop, rate=rate, tls=trusting
            )
        )
        assert report.received_bytes == received(server, kind)[0] >= seen
        assert (report.lost, report.unsent) == (0, 0)
        await until_descriptors(before)


@pytest.mark.parametrize("kind", ["tls"], indirect=True)
async def test_tls_ends_with_close_notify_even_if_nothing_was_said(
    serve: Serve, trusting: ssl.SSLContext | None
) -> None:
    """One trip over one of five connections: to the server each has ended as it should."""
    async with serve() as server:
        report = await techo.load(server.endpoints[0], connections=5, trips=1, tls=trusting)
        assert check(report).received == 1
        assert ended(await until_ended(server, 5)) == {"eof": 5}


@pytest.mark.parametrize("size", [1, 8, 60_000])
async def test_messages_of_any_size(
    kind: techo.Kind, serve: Serve, trusting: ssl.SSLContext | None, size: int
) -> None:
    """From a byte on, of which only so many differ, to what a datagram carries."""
    async with serve() as server:
        report = check(
            await techo.load(
                server.endpoints[0], connections=2, trips=20, size=size, tls=trusting
            )
        )
        assert (report.received, report.received_bytes) == (20, 20 * size)
        assert received(server, kind)[0] == 20 * size


@pytest.mark.parametrize("kind", sorted(MESSAGES), indirect=True)
async def test_a_message_too_large_is_a_value_error(serve: Serve) -> None:
    """One, bare, with size and limit, and nothing was sent."""
    async with serve() as server:
        before = await open_descriptors()
        with pytest.raises(ValueError, match="1000000 bytes do not fit into one message"):
            await techo.load(server.endpoints[0], size=1_000_000)
        await until_descriptors(before)
        assert server.statistics().datagrams.received == server.statistics().bytes_in == 0


async def test_without_a_descriptor_for_the_pump_there_is_a_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no connection is left open."""

    async def fail(_: object, **_options: object) -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise OSError(errno.EMFILE, "too many")

    for driver in (PumpDriver, TaskDriver):
        monkeypatch.setattr(driver, "_exchange", fail)
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        before = await open_descriptors()
        load = techo.load(server.endpoints[0], connections=2, trips=5, timeout=0.5)
        report = check(await load)
        await until_ended(server, 2)
        assert await open_descriptors() == before
    assert (report.received, report.unsent) == (0, 5)
    assert report.reasons == {techo.FailureCause.LOCAL: "too many open files"}


async def test_a_message_too_large_is_told_by_whoever_connects_first() -> None:
    """Also when that was the second try, while another had not had its first."""
    calls, tried = 0, trio.Event()

    async def connect() -> Any:  # a transport of ours, which passes for a stream
        nonlocal calls
        calls += 1
        if calls == 1:
            await tried.wait()
        if calls <= 2:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "not yet")
        tried.set()
        ours, theirs = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        return PacketTransport(ours)

    with trio.fail_after(PATIENCE), pytest.raises(ValueError, match="size 1000000: "):
        await techo.load(connect, connections=2, size=10**6)
