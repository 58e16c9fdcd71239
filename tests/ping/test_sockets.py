"""Ping over sockets of every kind: restarts, losses, faults, and nothing left open."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, open_descriptors, until
from pings import Seen, see, word_of
from techo import testing
from techo.testing import Fault

DATAGRAMS = {techo.Kind.UDP, techo.Kind.UNIXGRAM}
QUICK: dict[str, Any] = {"interval": 0.01, "timeout": PATIENCE}
"""Nothing is late only because the machine is busy."""

Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[techo.EchoService]]


@pytest.fixture
def serve(address: str, server_tls: ssl.SSLContext) -> Serve:
    """Opens a server of the kind, there or at an address given."""

    @asynccontextmanager
    async def serving(at: str = address, **options: Any) -> AsyncIterator[techo.EchoService]:
        async with techo.open_server(at, tls=server_tls, **options) as server:
            with trio.fail_after(PATIENCE):
                yield server

    return serving


@pytest.fixture
def trusting(kind: techo.Kind, client_tls: ssl.SSLContext) -> dict[str, Any]:
    """Options that make ping trust the server, and not wait for it in vain."""
    return QUICK | {"tls": client_tls if kind is techo.Kind.TLS else None}


@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
async def test_every_kind_is_answered(
    serve: Serve, kind: techo.Kind, trusting: dict[str, Any], reply: techo.Reply
) -> None:
    """Each probe once, over one connection; connecting and TLS are timed apart."""
    async with serve(reply=reply) as server:
        endpoint = server.endpoints[0]
        before = await open_descriptors()
        seen = await see(techo.ping(endpoint, count=10, **trusting))
        assert await open_descriptors() <= before + (kind not in DATAGRAMS)
    found = seen.statistics
    assert seen.told == [(seq, "reply") for seq in range(1, 11)]
    assert (found.endpoint, found.reconnects, found.largest) == (str(endpoint), 0, 64)
    steps = {"connect", "handshake"} if kind is techo.Kind.TLS else {"connect"}
    assert {name: each.count for name, each in found.setup.items()} == dict.fromkeys(steps, 1)
    assert all(0 < each.min < PATIENCE * 1e9 for each in found.setup.values())
    assert 0 < found.latency.min <= found.latency.max < PATIENCE * 1e9


async def test_a_server_that_was_away_is_found_again(
    address: str, server_tls: ssl.SSLContext, kind: techo.Kind, trusting: dict[str, Any]
) -> None:
    """Its end, that nobody is there, and its return: an outage with from, to and length."""
    limits = techo.Limits(drain_timeout=0.2, close_timeout=0.01)
    causes = set()
    async with trio.open_nursery() as nursery:
        before = techo.EchoService(tls=server_tls, limits=limits)
        (endpoint,) = await nursery.start(before.serve, address)
        async with techo.ping(endpoint, **trusting) as ping:
            assert isinstance(await anext(ping), techo.PingReply)
            await before.drain()
            with trio.fail_after(PATIENCE):
                while techo.FailureCause.REFUSED not in causes:
                    if isinstance(result := await anext(ping), techo.PingFailure):
                        causes.add(result.cause)
            assert causes <= {
                techo.FailureCause.EOF,
                techo.FailureCause.RESET,
                techo.FailureCause.REFUSED,
            }
            after = techo.EchoService(tls=server_tls)
            await nursery.start(after.serve, endpoint)
            while isinstance(result := await anext(ping), techo.PingFailure):
                assert result.cause in {techo.FailureCause.RESET, techo.FailureCause.REFUSED}
            nursery.cancel_scope.cancel()
    found, outage = ping.statistics(), ping.statistics().longest_outage
    assert outage is not None
    assert outage.until is not None
    assert (found.outages, outage.probes) == (1, found.lost)
    assert found.reconnects == (kind not in DATAGRAMS)
    # Clocks may differ by what they are read apart.
    assert outage.until - outage.since == pytest.approx(outage.seconds, abs=2.5)
    assert isinstance(result, techo.PingReply)
    assert outage.until == pytest.approx(result.at - result.seconds, abs=2.5)


async def test_leaving_it_in_mid_iteration_leaks_nothing(
    serve: Serve, trusting: dict[str, Any]
) -> None:
    """With a probe under way whose reply is held back."""
    limits = techo.Limits(drain_timeout=0)
    async with serve(faults=[testing.Delay(PATIENCE)], limits=limits) as server:
        before = await open_descriptors()
        async with (
            techo.ping(server.endpoints[0], **trusting) as ping,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(anext, ping)
            await until(lambda: server.history)
            nursery.cancel_scope.cancel()
        found = ping.statistics()
        assert found.sent == found.in_flight + found.lost > 0
        assert await open_descriptors() == before + server.statistics().active


async def see_faults(address: str, *faults: Fault, reply: techo.Reply, **options: Any) -> Seen:
    """Ping a server at an address with these faults, always the same ones."""
    async with techo.open_server(address, reply=reply, faults=faults, seed=5) as server:
        with trio.fail_after(PATIENCE):
            seen = await see(techo.ping(server.endpoints[0], **QUICK | options))
    return seen


@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
@pytest.mark.parametrize(
    ("kind", "fault", "cause"),
    [
        ("tcp", testing.Reset(), "reset"),
        ("tcp", testing.CloseUnread(), "eof reset"),
        ("tcp", testing.Truncate(10), "short"),
        ("tcp", testing.Corrupt(1.0), "corrupt"),
        ("tcp", testing.HalfCloseFirst(), "eof"),
        ("unix", testing.Truncate(50), "short"),
        ("unix", testing.HalfCloseFirst(), "eof"),
        ("unixpacket", testing.Truncate(50), "short"),
        ("unixpacket", testing.CloseUnread(), "eof reset"),
        ("unixgram", testing.Truncate(50), "short"),
        ("unixgram", testing.Corrupt(0.05), "corrupt"),
        ("udp", testing.Truncate(50), "short"),
        ("udp", testing.Lengthen(3), "corrupt"),
        ("udp", testing.Corrupt(0.1), "corrupt"),
    ],
    indirect=["kind"],
    ids=str,
)
async def test_what_fails_has_its_cause(
    address: str, fault: Fault, cause: str, reply: techo.Reply
) -> None:
    """The same for every probe, whatever carries it; what was altered is counted, too."""
    seen = await see_faults(address, fault, reply=reply, count=5)
    found = seen.statistics
    assert {str(each) for each in found.failures} <= set(cause.split())
    assert (found.lost, found.received, found.loss) == (5, 0, 100)
    # On a busy machine several probes are under way, and a stream's bad byte costs them all.
    assert (1 <= found.corrupt <= 5) if cause == "corrupt" else found.corrupt == 0
    assert found.largest is None


@pytest.mark.parametrize("kind", ["udp", "unixgram", "unixpacket"], indirect=True)
async def test_lost_messages_are_those_that_were_lost(address: str) -> None:
    """The server's count of them is ping's, and the others are all there."""
    async with techo.open_server(address, faults=[testing.DropReply(0.2)], seed=5) as server:
        with trio.fail_after(PATIENCE):
            # Time enough for a busy machine, which the replies need not wait for.
            ping = techo.ping(server.endpoints[0], count=40, interval=0.002, timeout=1.5)
            found = (await see(ping)).statistics
        dropped = len(server.history)
    assert 0 < dropped < 40
    assert found.failures == {techo.FailureCause.TIMEOUT_REPLY: dropped}
    assert (found.lost, found.received) == (dropped, 40 - dropped)
    assert found.loss == pytest.approx(100 * dropped / 40)


@pytest.mark.parametrize("kind", ["udp", "unixgram", "unixpacket"], indirect=True)
async def test_a_second_reply_is_a_duplicate_and_no_success(address: str) -> None:
    """But for the last one's, which nobody waits for, and which may yet have come."""
    seen = await see_faults(address, testing.DuplicateReply(), reply=techo.stamped, count=5)
    assert (seen.statistics.received, seen.statistics.loss) == (5, 0)
    told = sorted(seen.told, key=lambda each: each[0] or 0)  # two may be under way
    all_of_it = [(seq, word) for seq in range(1, 6) for word in ("reply", "duplicate")]
    assert told == all_of_it[: len(told)]
    # It may also come when nobody asks for results any more, and is counted all the same.
    assert 4 <= len(told) - 5 <= seen.statistics.duplicate <= 5


@pytest.mark.parametrize("kind", ["udp", "unixgram", "unixpacket"], indirect=True)
async def test_replies_may_overtake_one_another(address: str) -> None:
    """Each is matched to its own probe, in whatever order."""
    fault = testing.ReorderReplies(0.5, depth=2)
    seen = await see_faults(address, fault, reply=techo.stamped, count=40)
    order = [result.seq for result in seen.results]
    assert seen.statistics.received == 40
    assert order != sorted(order, key=lambda seq: seq or 0)
    assert sorted(order, key=lambda seq: seq or 0) == list(range(1, 41))


@pytest.mark.parametrize("kind", ["udp", "unixgram"], indirect=True)
async def test_a_late_datagram_is_lost_no_longer(
    address: str, patient_clock: trio.testing.MockClock
) -> None:
    """It failed when its time was over, and came back after that."""
    seen = await see_faults(
        address, testing.Delay(0.3), reply=techo.raw, count=2, interval=1, timeout=0.1
    )
    assert seen.told == [(1, "timeout-reply"), (1, "late"), (2, "timeout-reply")]
    late = seen.results[1]
    assert isinstance(late, techo.PingReply)
    assert late.seconds > 0.29
    assert (seen.statistics.late, seen.statistics.lost, seen.statistics.received) == (1, 1, 1)


async def test_what_nobody_can_recognise_is_a_stray_and_the_probe_is_lost(
    patient_clock: trio.testing.MockClock,
) -> None:
    """Not a single byte is the same: whose it was, only its absence tells."""
    seen = await see_faults(
        "udp://127.0.0.1:0", testing.Corrupt(1.0), reply=techo.raw, count=1, timeout=1
    )
    assert seen.told == [(1, "timeout-reply")]
    assert (seen.statistics.stray, seen.statistics.corrupt) == (1, 0)


async def test_an_error_over_datagrams_costs_one_of_them(
    patient_clock: trio.testing.MockClock,
) -> None:
    """That which the error quotes: the others may be on their way back."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"udp://127.0.0.1:{silent.getsockname()[1]}"
        ping = techo.ping(target, count=4, interval=0.1, timeout=PATIENCE)
        async with ping, trio.open_nursery() as nursery:
            nursery.start_soon(close_when, silent, lambda: ping.statistics().sent == 3)
            result = await anext(ping)
            found = ping.statistics()
    assert (result.seq, word_of(result)) == (4, "refused")
    assert (found.sent, found.lost, found.in_flight) == (4, 1, 3)


async def close_when(sock: socket.socket, condition: Callable[[], object]) -> None:
    """Close a socket as soon as something is so."""
    await until(condition)
    sock.close()


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("udp", range(65_506, 65_509)), ("unixpacket", range(1000, 10**6, 499_500))],
    indirect=["kind"],
)
async def test_the_largest_message_is_the_largest_that_returned(
    address: str, sizes: range
) -> None:
    """What is too long to be sent fails by itself; the connection serves the others."""
    seen = await see_faults(address, reply=techo.raw, size=sizes)
    # What can't be sent is told at once, while others may be under way.
    words = [word for _, word in sorted(seen.told, key=lambda each: each[0] or 0)]
    assert len(words) == len(sizes)
    assert "too-large" in words
    assert all(
        "too long" in result.reason or "too large" in result.reason
        for result in seen.results
        if isinstance(result, techo.PingFailure)
    )
    last = sizes[words.index("too-large") - 1]
    assert (seen.statistics.largest, seen.statistics.reconnects) == (last, 0)


async def test_a_stream_closed_by_our_own_program_is_noticed_at_once(
    conversation: str, patient_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """Nothing more is sent under its number, which may be a file's by now."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    streams: list[trio.SocketStream] = []

    async def connect() -> trio.SocketStream:
        address = listener.socket.getsockname()
        if streams:
            raise ConnectionRefusedError
        streams.append(await trio.open_tcp_stream(address[0], address[1]))
        return streams[0]

    async with (
        listener,
        techo.ping(connect, interval=1, timeout=9, count=3) as ping,
        await listener.accept() as accepted,
    ):
        await accepted.receive_some()
        number = streams[0].socket.fileno()
        await streams[0].aclose()
        file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
        if file != number:
            os.dup2(file, number)
            os.close(file)
        words = [word_of(result) async for result in ping]
        os.close(number)
    assert words == ["reset", "refused", "refused"]
    assert trio.current_time() < 9
    assert not (tmp_path / "file").read_bytes()


@pytest.mark.parametrize("kind", ["udp", "unixgram", "unixpacket"], indirect=True)
async def test_what_is_too_long_costs_none_of_those_under_way(
    address: str, conversation: str, patient_clock: trio.testing.MockClock
) -> None:
    """Each of them comes back, over the same connection."""
    options = {"size": range(1000, 10**6, 499_500), "interval": 0.1, "count": 8}
    seen = await see_faults(address, testing.Delay(1), reply=techo.raw, **options)
    told = sorted(seen.told, key=lambda each: each[0] or 0)
    assert told == [(seq, "reply" if seq % 2 else "too-large") for seq in range(1, 9)]
    assert (seen.statistics.largest, seen.statistics.reconnects) == (1000, 0)


async def test_a_queue_that_is_full_is_a_cause(tmp_path: Path) -> None:
    """What can't even be sent is lost with what was due behind it, and the socket is closed."""
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(path)
        async with techo.ping(f"unixgram:{path}", interval=0.001, timeout=0.5) as ping:
            with trio.fail_after(PATIENCE):
                while True:
                    result = await anext(ping)
                    assert isinstance(result, techo.PingFailure)
                    assert result.cause is techo.FailureCause.TIMEOUT_REPLY
                    if result.reason == "not sent within 0.5 s":
                        break
