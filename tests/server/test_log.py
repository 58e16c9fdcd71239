"""The log of a server: what is turned away is summed up, and each line says where and who."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import connect, receive_until_end, until, until_ended
from techo._server.connection import Peer
from techo._server.hook import RefusedError, ServiceHook
from techo._transport.transport import Transport
from techo.testing import DropReply, MemoryListener, MemoryStream, Refuse


def facts(record: logging.LogRecord, *names: str) -> tuple[Any, ...]:
    """Return what a record has under these names; None for what it has not."""
    return tuple(getattr(record, name, None) for name in names)


@contextlib.contextmanager
def datagram_peer(endpoint: techo.Endpoint) -> Iterator[trio.socket.SocketType]:
    """Return a UDP socket that talks to an endpoint for a block."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect((endpoint.host, endpoint.port))
        yield trio.socket.from_stdlib_socket(sock)


async def refuse_some(listener: MemoryListener, count: int) -> None:
    """Connect so many times to a server that has no room."""
    for _ in range(count):
        async with await listener.connect() as refused:
            assert await refused.receive_some() == b""


async def test_refusals_are_one_line_at_once_and_one_a_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """There are two lines for 80 that were refused in a minute, and none at INFO."""
    caplog.set_level(logging.INFO, "techo")
    listener = MemoryListener()
    limits = techo.Limits(max_connections=1, idle_timeout=1000)
    async with (
        techo.open_server(listener, limits=limits),
        await listener.connect() as admitted,
    ):
        await admitted.send_all(b"x")
        assert await admitted.receive_some()
        caplog.clear()
        await refuse_some(listener, 80)
        await trio.sleep(61)
        first, total = caplog.records
        await trio.sleep(61)
        assert len(caplog.records) == 2
    assert (first.levelno, total.levelno) == (logging.WARNING, logging.WARNING)
    assert first.getMessage() == "max-connections 1 reached; refused MemoryStream"
    assert facts(first, "event", "id", "cause") == ("refused", 2, "max-connections 1 reached")
    assert total.getMessage() == (
        "max-connections 1 reached; 80 refused in the last 60 s, the last from MemoryStream"
    )
    assert facts(total, "event", "count", "seconds") == ("refused", 80, 60.0)


async def test_each_refusal_is_a_detail(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With -v each has its line, under the number that its connection has."""
    caplog.set_level(logging.DEBUG, "techo")
    listener = MemoryListener()
    async with (
        techo.open_server(listener, limits=techo.Limits(max_connections=1)),
        await listener.connect() as admitted,
    ):
        await admitted.send_all(b"x")
        assert await admitted.receive_some()
        await refuse_some(listener, 3)
    found = [each for each in caplog.records if facts(each, "event") == ("refused",)]
    assert [facts(each, "id") for each in found] == [(2,), (3,), (4,), (None,)]
    assert [each.levelname for each in found] == ["WARNING", "DEBUG", "DEBUG", "WARNING"]


async def test_a_sum_is_not_lost_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """What was refused since the last sum comes before the total, with its endpoint."""
    caplog.set_level(logging.INFO, "techo")
    limits = techo.Limits(max_per_host=1)
    async with techo.open_server("tcp://127.0.0.1:0", limits=limits) as server:
        (endpoint,) = server.endpoints
        async with await connect(server) as admitted:
            await admitted.send_all(b"x")
            assert await admitted.receive_some()
            for _ in range(3):
                async with await connect(server) as refused:
                    assert await receive_until_end(refused) == b""
        await until_ended(server, 4)
    *_, draining, total_refused, total = caplog.records
    assert facts(draining, "event", "active") == ("draining", 0)
    assert total_refused.getMessage().startswith(
        "max-per-host 1 reached; 3 refused in the last "
    )
    assert facts(total_refused, "endpoint") == (str(endpoint),)
    assert facts(total, "event", "accepted") == ("total", 4)
    assert total.getMessage().startswith(
        "stopped; in total accepted=4, outcomes={eof: 1, refus"
    )


class _NobodyComesIn(ServiceHook):
    async def identify(self, transport: Transport, peer: Peer) -> Peer:
        del transport, peer
        await trio.lowlevel.checkpoint()
        raise RefusedError("nobody comes in")


async def test_a_hook_that_refuses_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Who is not allowed in is a warning too."""
    service = techo.EchoService(hook=_NobodyComesIn())
    ours, theirs = trio.testing.memory_stream_pair()
    await service.handle(theirs)
    assert await ours.receive_some() == b""
    assert caplog.messages == ["nobody comes in; refused StapledStream"]


async def test_a_refusal_on_purpose_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A fault that was asked for is an outcome like others."""
    caplog.set_level(logging.INFO, "techo")
    service = techo.EchoService(faults=[Refuse()])
    ours, theirs = trio.testing.memory_stream_pair()
    await service.handle(theirs)
    assert await ours.receive_some() == b""
    assert [each.levelname for each in caplog.records] == ["INFO", "INFO"]


async def test_dropped_datagrams_are_summed_up(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """There is a line for the first of a kind and one for all of them, with the endpoint."""
    limits = techo.Limits(max_datagrams_per_second=1)
    async with techo.open_server("udp://127.0.0.1:0", limits=limits) as server:
        (endpoint,) = server.endpoints
        with datagram_peer(endpoint) as sock:
            for _ in range(10):
                await sock.send(b"x")
            await until(lambda: server.statistics().datagrams.received == 10)
            host, port = sock.getsockname()
    first, total = caplog.records
    assert first.getMessage() == f"datagrams not answered (rate); dropped {host}:{port}"
    assert facts(first, "event", "id", "peer") == ("dropped", 1, f"{host}:{port}")
    assert facts(total, "event", "count", "endpoint") == ("dropped", 9, str(endpoint))


async def test_single_datagrams_are_details(caplog: pytest.LogCaptureFixture) -> None:
    """With -v each has its line: where, from whom, how large."""
    caplog.set_level(logging.DEBUG, "techo")
    async with techo.open_server("udp://127.0.0.1:0", reply=techo.raw) as server:
        (endpoint,) = server.endpoints
        with datagram_peer(endpoint) as sock:
            for number in range(1, 4):
                await sock.send(b"x" * number)
                await sock.recv(100)
            port = sock.getsockname()[1]
    found = [each for each in caplog.records if facts(each, "event") == ("echoed",)]
    assert [facts(each, "id", "bytes_in", "bytes_out") for each in found] == [
        (number, number, number) for number in range(1, 4)
    ]
    names = facts(found[0], "endpoint", "peer", "levelname")
    assert names == (str(endpoint), f"127.0.0.1:{port}", "DEBUG")


async def test_a_datagram_lost_on_purpose_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    """A fault that was asked for is no warning."""
    caplog.set_level(logging.DEBUG, "techo")
    faults = [DropReply()]
    async with techo.open_server("udp://127.0.0.1:0", faults=faults) as server:
        with datagram_peer(server.endpoints[0]) as sock:
            await sock.send(b"x")
            await until(lambda: server.statistics().datagrams.received)
    (dropped,) = [each for each in caplog.records if facts(each, "event") == ("dropped",)]
    assert (dropped.levelname, "(fault)" in dropped.getMessage()) == ("DEBUG", True)


async def test_a_crash_names_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The traceback has the facts that other lines of the connection have."""

    def crash(_: bytes) -> bytes:
        raise ZeroDivisionError

    async with techo.open_server("tcp://127.0.0.1:0", reply=crash) as server:
        (endpoint,) = server.endpoints
        async with await connect(server) as stream:
            await stream.send_all(b"x")
            with contextlib.suppress(trio.BrokenResourceError):
                await receive_until_end(stream)
    (record,) = caplog.records
    assert facts(record, "event", "id", "endpoint") == ("failure", 1, str(endpoint))


async def test_a_cancelled_server_has_its_total(caplog: pytest.LogCaptureFixture) -> None:
    """The last line counts what was aborted."""
    caplog.set_level(logging.INFO, "techo")
    service = techo.EchoService()
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        await nursery.start(service.serve, listener)
        client: MemoryStream = await listener.connect()
        await until(lambda: service.statistics().active)
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(client)
    assert caplog.messages[-1] == "stopped; in total accepted=1, outcomes={aborted: 1}"
    assert not [each for each in caplog.messages if each.startswith("draining")]
