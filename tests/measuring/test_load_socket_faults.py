"""Load over sockets, by the pump and without: what goes wrong is counted, and never hangs."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, until
from loads import causes, check
from techo import load
from techo._client.datagram_socket import DatagramSocket
from techo._measuring.carrying import carrier_for
from techo._measuring.lane import Work
from techo._measuring.payloads import Payloads
from techo._measuring.schedule import Schedule
from techo.testing import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    DropReply,
    DuplicateReply,
    Fault,
    Lengthen,
    NeverHandshake,
    ReorderReplies,
    Reset,
    Stall,
    Truncate,
)

MESSAGES = ["udp", "unixgram", "unixpacket"]

pytestmark = pytest.mark.usefixtures("carrier")


@contextlib.asynccontextmanager
async def faulty(
    address: techo.Endpoint | str, *faults: Fault, **options: Any
) -> AsyncIterator[techo.EchoService]:
    """A server with faults, for a block that does not last for ever."""
    options = {"reply": techo.raw, "limits": techo.Limits(drain_timeout=0.01), **options}
    async with techo.open_server(address, faults=faults, **options) as server:
        with trio.fail_after(PATIENCE):
            yield server


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
async def test_messages_that_fail_have_a_cause(address: str, fault: Fault, cause: str) -> None:
    """Each for itself: no other is lost with it, and no connection."""
    timeout = 0.1 if cause == "timeout-reply" else PATIENCE
    async with faulty(address, fault) as server:
        report = check(
            await load(
                server.endpoints[0], connections=2, pipeline=3, trips=12, timeout=timeout
            )
        )
    assert (report.round_trips, report.lost) == (0, 12)
    assert causes(report) == {cause: 12}
    assert (report.reconnects, report.late, report.duplicate) == (0, 0, 0)
    assert not report.never_reached


@pytest.mark.parametrize("kind", ["udp", "unixgram"], indirect=True)
async def test_an_empty_datagram_is_no_end(address: str) -> None:
    """It is a reply that was cut to nothing; the socket is used on."""
    async with faulty(address, Truncate(after=0, every=2)) as server:
        report = check(await load(server.endpoints[0], connections=1, trips=20))
    assert (report.round_trips, report.reconnects) == (10, 0)
    assert causes(report) == {"short": 10}


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_some_of_the_messages_fail(address: str) -> None:
    """As many as the server says; the others come back."""
    async with faulty(address, DropReply(0.1), seed=3) as server:
        report = check(
            await load(server.endpoints[0], connections=5, pipeline=2, trips=60, timeout=0.3)
        )
        dropped = len(server.history)
    assert 0 < dropped < 30
    assert (report.round_trips, report.lost) == (60 - dropped, dropped)
    assert causes(report) == {"timeout-reply": dropped}
    assert report.loss == pytest.approx(100 * dropped / 60)


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_late_replies_are_lost_all_the_same(address: str) -> None:
    """They are told apart, and do not pass for the replies to later messages."""
    async with faulty(address, Delay(0.4)) as server:
        report = check(await load(server.endpoints[0], connections=2, trips=14, timeout=0.1))
    assert (report.round_trips, report.lost) == (0, 14)
    assert causes(report) == {"timeout-reply": 14}
    assert 0 < report.late < 14
    assert report.duplicate == 0


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_second_replies_are_no_success(address: str) -> None:
    """They are counted apart, but for that of the last, which nobody waits for."""
    async with faulty(address, DuplicateReply()) as server:
        report = check(await load(server.endpoints[0], connections=1, trips=20))
    assert (report.round_trips, report.lost, report.late) == (20, 0, 0)
    assert report.duplicate in (19, 20)


@pytest.mark.parametrize("kind", MESSAGES, indirect=True)
async def test_messages_may_overtake_each_other(address: str) -> None:
    """Each is found again by what is in it."""
    async with faulty(address, ReorderReplies(0.5, depth=2), seed=1) as server:
        report = check(await load(server.endpoints[0], connections=2, pipeline=8, trips=200))
        assert server.history
    assert (report.round_trips, report.lost, report.errors) == (200, 0, {})


@pytest.mark.parametrize(
    ("kind", "fault", "expected"),
    [
        ("tcp", Corrupt(1.0), {"corrupt"}),
        ("unix", Truncate(after=100), {"short"}),
        ("tcp", Reset(after=100), {"reset"}),
        ("tls", Reset(after=100), {"reset"}),
        ("tls", Truncate(after=100), {"short"}),
        ("unix", CloseUnread(), {"eof", "reset"}),
        ("unixpacket", CloseUnread(), {"eof", "reset"}),
        ("tcp", Stall(after=100), {"timeout-reply"}),
        ("unixpacket", Stall(after=100), {"timeout-reply"}),
        ("tcp", Chunk(7), set()),
    ],
    indirect=["kind"],
    ids=str,
)
@pytest.mark.parametrize("rate", [None, 500])
async def test_streams_that_fail_have_a_cause(  # noqa: PLR0917  -- parameters and fixtures
    address: str,
    fault: Fault,
    expected: set[str],
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
    assert report.round_trips + report.lost <= 12
    assert set(causes(report)) <= expected
    assert sum(report.errors.values()) == report.lost
    assert bool(report.lost) == bool(expected)
    if not isinstance(fault, Stall):
        assert report.round_trips + report.lost == 12
        assert bool(report.reconnects) == bool(expected)


@pytest.mark.parametrize("kind", ["tcp", "unix", "unixpacket"], indirect=True)
async def test_connections_that_end_when_they_are_idle_keep_nobody_waiting(
    address: str,
) -> None:
    """Each ends behind one reply; the next trip may be due when that is not known yet."""
    limits = techo.Limits(idle_timeout=0.001, drain_timeout=0.01)
    async with faulty(address, limits=limits) as server:
        report = check(await load(server.endpoints[0], connections=2, rate=500, trips=100))
    assert (report.round_trips + report.lost, report.unsent) == (100, 0)
    assert report.reconnects > 0


async def test_a_server_that_goes_away_and_comes_back(
    kind: techo.Kind,
    address: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """What was lost has a cause; every connection finds the new one."""
    tls = client_tls if kind is techo.Kind.TLS else None
    reports: list[techo.LoadReport] = []
    trips = 0

    def reply(chunk: bytes) -> bytes:
        nonlocal trips
        trips += 1
        return chunk

    async def wait_for_more_trips() -> None:
        before = trips
        await until(lambda: trips > before + 100)

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        async with faulty(address, reply=reply, tls=server_tls) as server:
            endpoint = server.endpoints[0]

            async def measure() -> None:
                options: dict[str, Any] = {"connections": 3, "timeout": 0.5, "tls": tls}
                options |= {"seconds": PATIENCE, "watch": reports.append, "stop": stop}
                reports.append(await load(endpoint, **options))

            nursery.start_soon(measure)
            await wait_for_more_trips()
        await until(lambda: reports and reports[-1].failed)
        async with faulty(endpoint, reply=reply, tls=server_tls):
            await wait_for_more_trips()
            stop.set()
            await until(lambda: reports[-1].in_flight == 0 and reports[-1].reconnects)
    report = check(reports[-1])
    assert report.round_trips > 200
    assert set(causes(report)) & {"refused", "eof", "reset", "timeout-reply"}
    assert set(causes(report)) <= {"refused", "eof", "reset", "timeout-reply", "short"}
    assert report.reconnects >= 1
    assert not report.never_reached


async def test_a_server_that_takes_nothing_ends_the_load(tmp_path: Path) -> None:
    """Its queue is full, so that nothing can even be sent; and nobody waits for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{tmp_path}/s")
        with trio.fail_after(PATIENCE):
            report = check(
                await load(f"unixgram:{tmp_path}/s", connections=3, trips=10**6, timeout=0.1)
            )
    assert report.round_trips == 0
    assert causes(report) == {"timeout-reply": report.lost}
    assert report.lost > 10


@pytest.mark.parametrize("warm_up", [0, 60])
@pytest.mark.parametrize("name", ["tcp", "udp", "unix", "unixgram", "dns", "way"])
async def test_where_nobody_is_nobody_is_reached(
    name: str, warm_up: float, closed_port: int, tmp_path: Path
) -> None:
    """With the reason, also of a load that ends before it has begun to count."""
    target, cause = {
        "tcp": (f"127.0.0.1:{closed_port}", "refused"),
        "udp": (f"udp://127.0.0.1:{closed_port}", "refused"),
        "unix": (f"unix:{tmp_path}/none", "refused"),
        "unixgram": (f"unixgram:{tmp_path}/none", "refused"),
        "dns": ("no-such-host.invalid:1", "dns"),
        "way": ("udp://255.255.255.255:9", "unreachable"),  # which the system forbids
    }[name]
    with trio.fail_after(PATIENCE):
        report = check(await load(target, connections=2, warm_up=warm_up, timeout=0.2))
    assert report.never_reached
    assert set(causes(report)) == {cause}
    assert report.seconds == 0


@pytest.mark.parametrize(("trusted", "cause"), [(False, "tls"), (True, "timeout-connect")])
async def test_tls_that_does_not_begin(
    trusted: bool,  # noqa: FBT001  -- a parameter of the test
    cause: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """With a certificate that nobody trusts, or no handshake at all."""
    stranger = ssl.create_default_context()
    trustme.CA().configure_trust(stranger)
    faults = [NeverHandshake()] if trusted else []
    async with faulty("tls://127.0.0.1:0", *faults, tls=server_tls) as server:
        report = check(
            await load(
                server.endpoints[0],
                connections=2,
                timeout=0.2 if trusted else PATIENCE,
                tls=client_tls if trusted else stranger,
            )
        )
    assert report.never_reached
    assert causes(report) == {cause: 2}


async def test_what_can_not_be_sent_ends_the_connection(tmp_path: Path, carrier: str) -> None:
    """At once, with the reason; what the pump has not even tried is for the next one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(f"{tmp_path}/s")
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        line = DatagramSocket.connected(ours, f"{tmp_path}/s")
    schedule = Schedule(0.0, 0.0, 1e9, None, None)
    work = Work(schedule, Payloads(64), 64, 8, trio.current_time)
    made = carrier_for(line, work)
    made.go_on()
    begun = 1 if carrier == "pump" else 8
    assert work.in_flight == begun
    with trio.fail_after(PATIENCE):
        made.lane.broke(await made.carry())
        await made.close()
    assert dict(work.tally.errors) == {"refused": begun}
    assert (work.tally.lost, work.in_flight) == (begun, 0)
