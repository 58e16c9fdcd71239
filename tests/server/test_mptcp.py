"""Multipath TCP: both ends speak it where they can, and say what a connection became."""

from __future__ import annotations

import logging
import socket
import ssl

import pytest
import trio

import techo
from helpers import PATIENCE, run, serving, until_ended
from techo._checking.names import CHECK_NAMES
from techo._checking.suite import check_echo_service
from techo._kernel import mptcp

SPOKEN = techo.MptcpPaths(connections=1, plain=0, subflows=1)
PLAIN = techo.MptcpPaths(connections=0, plain=1, subflows=0)
ANY = "mptcp://127.0.0.1:0"
TCP = "tcp://127.0.0.1:0"


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "techo")


@pytest.fixture
def protocol() -> int:
    """What MPTCP's sockets are opened with, where the kernel has it."""
    found = mptcp.protocol(socket.AF_INET)
    if not found:
        pytest.skip("this kernel has no MPTCP, or net.mptcp.enabled is 0")
    return found


def closed(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """What the log says of connections that are over: protocol and subflows."""
    ended = [each for each in caplog.records if getattr(each, "event", "") == "closed"]
    return [(getattr(e, "protocol", ""), getattr(e, "subflows", 0)) for e in ended]


async def pinged(endpoint: techo.Endpoint, kind: str) -> techo.PingStatistics:
    """Make two round trips, over the endpoint's port, as a client of that kind."""
    target = techo.Endpoint(endpoint.host, endpoint.port, kind=kind)
    with trio.fail_after(PATIENCE):
        async with techo.ping(target, count=2, interval=0.001, timeout=PATIENCE) as ping:
            assert [isinstance(each, techo.PingReply) async for each in ping] == [True, True]
    return ping.statistics()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "*"])
async def test_both_ends_speak_it(
    protocol: int, conversation: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Over either conversation and driver; both say so, with the number of subflows."""
    async with techo.open_server(f"mptcp://{host}:0", reply=techo.raw) as server:
        first = server.endpoints[0]
        assert {each.kind for each in server.endpoints} == {techo.Kind.MPTCP}
        assert {each.port for each in server.endpoints} == {first.port}
        near = techo.Endpoint("127.0.0.1", first.port) if host == "*" else first
        assert (await pinged(near, "mptcp")).mptcp == SPOKEN
        await until_ended(server, 1)
    assert closed(caplog) == [("mptcp", 1)]


async def test_plain_clients_are_served_as_plain_tcp(
    protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The server says what each became."""
    async with techo.open_server(ANY) as server:
        assert (await pinged(server.endpoints[0], "tcp")).mptcp is None
        await until_ended(server, 1)
    assert closed(caplog) == [("tcp", 0)]


async def test_a_plain_server_makes_it_plain_tcp(caplog: pytest.LogCaptureFixture) -> None:
    """Ping, load and check say so, each of all of its connections."""
    async with techo.open_server(TCP, reply=techo.raw) as server:
        port = server.endpoints[0].port
        assert (await pinged(server.endpoints[0], "mptcp")).mptcp == PLAIN
        place = f"mptcp://127.0.0.1:{port}"
        report = await techo.load(place, connections=2, trips=4)
        assert report.mptcp == techo.MptcpPaths(connections=0, plain=2, subflows=0)
        assert "2 connections of plain TCP" in str(report)
        skip = set(CHECK_NAMES) - {"1-byte"}
        checked = await check_echo_service(place, skip=skip)
        assert checked.mptcp == techo.MptcpPaths(connections=0, plain=2, subflows=0)
        await until_ended(server, 5)
    assert closed(caplog) == [("", 0)] * 5


async def test_a_kernel_without_it_serves_and_connects_by_plain_tcp(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it is served as is what is listened on; the log has the reason."""
    monkeypatch.setattr(mptcp, "_IPPROTO_MPTCP", None)
    async with techo.open_server(ANY, reply=techo.raw) as server:
        (endpoint,) = server.endpoints
        assert endpoint.kind is techo.Kind.TCP
        assert (await pinged(endpoint, "mptcp")).mptcp == PLAIN
    (warned,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "net.mptcp.enabled" in warned.getMessage()


def listener(protocol: int) -> socket.socket:
    """Return a listening socket of MPTCP."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


async def test_inherited_and_open_listeners_of_it_are_found_out(
    protocol: int, server_tls: ssl.SSLContext
) -> None:
    """As an endpoint of its own kind; with TLS above it is tls, which any client can speak."""
    fd, secure = (listener(protocol).detach() for _ in range(2))
    open_one = trio.SocketListener(trio.socket.from_stdlib_socket(listener(protocol)))
    places = f"fd:{fd}", f"tls+fd:{secure}", open_one
    async with techo.open_server(*places, tls=server_tls, reply=techo.raw) as server:
        assert [each.kind for each in server.endpoints] == ["mptcp", "tls", "mptcp"]
        assert (await pinged(server.endpoints[2], "mptcp")).mptcp == SPOKEN


async def test_sockets_of_one_s_own_are_served_by_trio(
    protocol: int, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    """`trio.serve_listeners` serves them with the plain handler, as `serve_tcp` its own."""
    service = techo.EchoService(techo.raw)
    ours = trio.SocketListener(trio.socket.from_stdlib_socket(listener(protocol)))
    port = ours.socket.getsockname()[1]
    await nursery.start(trio.serve_listeners, service.handle, [ours])
    assert (await pinged(techo.Endpoint(port=port), "mptcp")).mptcp == SPOKEN
    await until_ended(service, 1)
    assert closed(caplog) == [("mptcp", 1)]
    nursery.cancel_scope.cancel()


def test_what_linux_has_not_for_it_is_refused(protocol: int) -> None:
    """By the option's name, before anything is tried."""
    for options in (techo.SocketOptions(ttl=5), techo.SocketOptions(dont_fragment=True)):
        with pytest.raises(ValueError, match="Linux has it not for MPTCP"):
            techo.ping("mptcp://127.0.0.1:8009", options=options)


def test_talk_says_that_it_is_plain_tcp() -> None:
    """In one line on standard error; the reply comes all the same."""
    with serving("--reply", "raw", TCP) as process:
        place = f"mptcp://127.0.0.1:{process.port}"
        assert run("talk", place, stdin=b"hello") == (
            0,
            b"hello",
            "techo: 1 connection of plain TCP: MPTCP was not agreed on\n",
        )
