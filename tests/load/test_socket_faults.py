"""Load over sockets, by the pump and without: what goes wrong is counted, and never hangs."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, until
from loads import causes, check, faulty
from techo import load
from techo._transport.messages import PacketTransport
from techo.testing import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    DropReply,
    DuplicateReply,
    Fault,
    Lengthen,
    ReorderReplies,
    Reset,
    Stall,
    Truncate,
)

MESSAGES = ["udp", "unixgram", "unixpacket"]

pytestmark = pytest.mark.usefixtures("conversation")


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (DropReply(), "timeout-reply"),
        (Corrupt(0.2), "corrupt"),
        (Lengthen(3), "corrupt"),
        (Truncate(after=40), "short"),
    ],
    ids=str,
)
async def test_messages_that_fail_have_a_cause(
    address: str, fault: Fault, cause: str, patient_clock: trio.testing.MockClock
) -> None:
    """Each for itself: no other is lost with it, and no connection."""
    timeout = 0.1 if cause == "timeout-reply" else PATIENCE
    async with faulty(address, fault) as server:
        report = check(
            await load(
                server.endpoints[0], connections=2, pipeline=3, trips=12, timeout=timeout
            )
        )
    assert (report.received, report.lost) == (0, 12)
    assert causes(report) == {cause: 12}
    assert (report.reconnects, report.late, report.duplicate) == (0, 0, 0)
    assert not report.never_reached


@pytest.mark.parametrize("kind", ["udp", "unixgram"], indirect=True)
async def test_an_empty_datagram_is_no_end_and_no_reply(address: str) -> None:
    """It is a stray; the socket is used on."""
    async with faulty(address, Truncate(after=0, every=2)) as server:
        report = check(await load(server.endpoints[0], connections=1, trips=6, timeout=0.3))
    assert (report.received, report.reconnects, report.stray) == (3, 0, 3)
    assert causes(report) == {"timeout-reply": 3}


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_some_of_the_messages_fail(
    address: str, patient_clock: trio.testing.MockClock
) -> None:
    """As many as the server says; the others come back."""
    async with faulty(address, DropReply(0.1), seed=3) as server:
        report = check(
            await load(server.endpoints[0], connections=5, pipeline=2, trips=60, timeout=0.3)
        )
        dropped = len(server.history)
    assert 0 < dropped < 30
    assert (report.received, report.lost) == (60 - dropped, dropped)
    assert causes(report) == {"timeout-reply": dropped}
    assert report.loss == pytest.approx(100 * dropped / 60)


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_late_replies_are_lost_all_the_same(
    address: str, patient_clock: trio.testing.MockClock
) -> None:
    """They are told apart, and do not pass for the replies to later messages."""
    async with faulty(address, Delay(0.4)) as server:
        report = check(await load(server.endpoints[0], connections=2, trips=14, timeout=0.1))
    assert (report.received, report.lost) == (0, 14)
    assert causes(report) == {"timeout-reply": 14}
    assert 0 < report.late < 14
    assert report.duplicate == 0


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_second_replies_are_no_success(address: str) -> None:
    """They are counted apart, but for that of the last, which nobody waits for."""
    async with faulty(address, DuplicateReply()) as server:
        report = check(await load(server.endpoints[0], connections=1, trips=20))
    assert (report.received, report.lost, report.late) == (20, 0, 0)
    assert report.duplicate in (19, 20)


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_second_replies_of_the_warm_up_are_not_counted(
    address: str, patient_clock: trio.testing.MockClock
) -> None:
    """It is the message that counts or does not, whenever it comes."""
    async with faulty(address, DuplicateReply(), Delay(0.1)) as server:
        endpoint = server.endpoints[0]
        report = check(await load(endpoint, connections=1, trips=5, warm_up=0.2))
        assert len(server.history) > 5
    assert report.duplicate in (4, 5)


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_a_message_like_none_that_was_sent_is_a_stray(
    address: str, patient_clock: trio.testing.MockClock
) -> None:
    """It is counted as such, and the message that is waited for is lost in its time."""
    async with faulty(address, Corrupt(1.0)) as server:
        report = check(await load(server.endpoints[0], connections=1, trips=2, timeout=0.3))
    assert causes(report) == {"timeout-reply": 2}
    assert (report.lost, report.stray) == (2, 2)


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_messages_may_overtake_each_other(address: str) -> None:
    """Each is found again by what is in it."""
    async with faulty(address, ReorderReplies(0.5, depth=2), seed=1) as server:
        report = check(await load(server.endpoints[0], connections=2, pipeline=8, trips=200))
        assert server.history
    assert (report.received, report.lost, report.failures) == (200, 0, {})


@pytest.mark.parametrize(
    ("kind", "fault", "expected"),
    [
        ("tcp", Corrupt(1.0), ["corrupt"]),
        ("unix", Truncate(after=100), ["short"]),
        ("tcp", Reset(after=100), ["reset"]),
        ("tls", Reset(after=100), ["reset"]),
        ("tls", Truncate(after=100), ["short"]),
        ("unix", CloseUnread(), ["eof", "reset"]),
        ("unixpacket", CloseUnread(), ["eof", "reset"]),
        ("tcp", Stall(after=100), ["timeout-reply"]),
        ("unixpacket", Stall(after=100), ["timeout-reply"]),
        ("tcp", Chunk(7), []),
    ],
    indirect=["kind"],
    ids=str,
)
@pytest.mark.parametrize("rate", [None, 500])
async def test_streams_that_fail_have_a_cause(  # noqa: PLR0917  -- parameters and fixtures
    address: str,
    fault: Fault,
    expected: list[str],
    rate: float | None,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """What was under way is lost, and another connection makes the next trips."""
    async with faulty(address, fault, tls=server_tls) as server:
        report = check(
            await load(
                server.endpoints[0],
                connections=2,
                pipeline=2,
                trips=12,
                rate=rate,
                timeout=0.3 if isinstance(fault, Stall) else PATIENCE,
                tls=client_tls if address.startswith("tls") else None,
            )
        )
    assert report.received + report.lost <= 12
    assert set(causes(report)) <= set(expected)
    assert sum(report.failures.values()) == report.lost
    assert bool(report.lost) == bool(expected)
    if not isinstance(fault, Stall):
        assert report.received + report.lost == 12
        assert bool(report.reconnects) == bool(expected)


@pytest.mark.parametrize("kind", ["tcp", "unix", "unixpacket"], indirect=True)
async def test_connections_that_end_when_they_are_idle_keep_nobody_waiting(
    address: str,
) -> None:
    """Each ends behind one reply; the next trip may be due when that is not known yet."""
    limits = techo.Limits(idle_timeout=0.001, drain_timeout=0.01)
    async with faulty(address, limits=limits) as server:
        report = check(await load(server.endpoints[0], connections=2, rate=200, trips=100))
        assert server.statistics().accepted > 2
    assert (report.received + report.lost, report.unsent) == (100, 0)


@pytest.mark.parametrize("rate", [None, 1000.0])
async def test_who_greets_is_counted_and_does_not_begin_the_load(rate: float | None) -> None:
    """What nobody asked for is a stray; trips are as many as they should be."""

    async def echo(stream: PacketTransport) -> None:
        async with stream:
            while (message := await stream.receive()) is not None:
                await stream.send(message)

    async with trio.open_nursery() as nursery:

        async def connect() -> Any:  # a transport of ours, which passes for a stream
            ours, theirs = (
                PacketTransport(each)
                for each in trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            )
            await theirs.send(b"welcome to a server that is no echo")
            nursery.start_soon(echo, theirs)
            return ours

        with trio.fail_after(PATIENCE):
            report = check(await load(connect, connections=3, trips=30, rate=rate))
    assert (report.received, report.lost, report.reconnects) == (30, 0, 0)
    assert (report.stray, causes(report)) == (3, {})


async def test_a_datagram_that_comes_when_it_is_forgotten_is_late_and_no_harm(
    patient_clock: trio.testing.MockClock,
) -> None:
    """A server that halts answers what is oldest, thousands of messages later."""
    stop, many_lost, some_late = trio.Event(), trio.Event(), trio.Event()
    reports: list[techo.LoadReport] = []

    def watch(report: techo.LoadReport) -> None:
        if report.lost > 2500:
            many_lost.set()
        if report.late > 50:
            some_late.set()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:

            async def measure() -> None:
                target = f"udp://127.0.0.1:{sock.getsockname()[1]}"
                options: dict[str, Any] = {"pipeline": 500, "timeout": 0.2, "stop": stop}
                options |= {"seconds": PATIENCE, "watch": watch}
                reports.append(await load(target, connections=1, **options))

            nursery.start_soon(measure)
            await trio.lowlevel.wait_readable(sock)
            sock.sendto(*sock.recvfrom(100))  # or the load would soon be over
            # It has room for hundreds of these, and drops the others.
            await many_lost.wait()
            while select.select([sock], [], [], 0)[0]:
                sock.sendto(*sock.recvfrom(100))
            await some_late.wait()
            stop.set()
    report = check(reports[-1])
    assert set(causes(report)) == {"timeout-reply"}
    assert report.duplicate == 0


@pytest.mark.parametrize("kind", ["udp", "unixpacket"])
async def test_nobody_is_waited_for_who_never_answers(kind: str, tmp_path: Path) -> None:
    """A load of a million trips ends when ten in a row could have been lost."""
    address = f"{tmp_path}/s" if kind == "unixpacket" else ("127.0.0.1", 0)
    family = socket.AF_UNIX if kind == "unixpacket" else socket.AF_INET
    type_ = socket.SOCK_SEQPACKET if kind == "unixpacket" else socket.SOCK_DGRAM
    with socket.socket(family, type_) as sock:
        sock.bind(address)
        target = f"unixpacket:{address}"
        if kind == "unixpacket":
            sock.listen()
        else:
            target = f"udp://127.0.0.1:{sock.getsockname()[1]}"
        with trio.fail_after(PATIENCE):
            report = check(await load(target, connections=2, trips=10**6, timeout=0.02))
    assert (report.received, report.unsent) == (0, 10**6 - report.lost)
    assert causes(report) == {"timeout-reply": report.lost}
    assert not report.never_reached


async def test_a_socket_that_can_send_again_is_used_again(tmp_path: Path) -> None:
    """Its messages were given up while none could be sent, so no reply can set it going."""
    stop, reports = trio.Event(), list[techo.LoadReport]()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        sock.bind(f"{tmp_path}/s")
        sock.setblocking(False)
        other.connect(f"{tmp_path}/s")
        async with trio.open_nursery() as nursery:

            async def measure() -> None:
                options: dict[str, Any] = {"seconds": PATIENCE, "timeout": 1, "stop": stop}
                target = f"unixgram:{tmp_path}/s"
                report = await load(target, connections=1, watch=reports.append, **options)
                reports.append(report)

            nursery.start_soon(measure)
            with trio.fail_after(PATIENCE):
                await trio.lowlevel.wait_readable(sock)
                first = sock.recvfrom(100)
                fill(other)
                sock.sendto(*first)  # the next message finds no room
                await until(lambda: reports and reports[-1].lost)
                await swallow(sock, 64)
                while reports[-1].received < 2:
                    await trio.lowlevel.wait_readable(sock)
                    sock.sendto(*sock.recvfrom(100))
                stop.set()
                nursery.cancel_scope.cancel()
    assert causes(reports[-1]) == {"timeout-reply": reports[-1].lost}


def fill(sender: socket.socket) -> None:
    """Send until the other side has no room any more."""
    sender.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(b"filling")


async def swallow(sock: socket.socket, size: int) -> None:
    """Receive until a message of that size has come, and answer none of them."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        if len(sock.recv(100)) == size:
            return
