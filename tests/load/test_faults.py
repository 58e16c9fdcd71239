"""Load in virtual time: what goes wrong with trips, and its cause."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from loads import causes, check, connecting
from techo.testing import (
    CloseUnread,
    Corrupt,
    Delay,
    Fault,
    Lengthen,
    MemoryStream,
    Reset,
    Stall,
    Throttle,
    Truncate,
    open_memory_server,
)

Clock = trio.testing.MockClock


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Corrupt(1.0), "corrupt"),
        (Lengthen(3), "corrupt"),
        (Truncate(after=40), "short"),
        (Truncate(after=0), "eof"),
        (CloseUnread(), "reset"),
        (Reset(after=0), "reset"),
        (Reset(after=40), "reset"),
        (Stall(after=0), "timeout-reply"),
        (Stall(after=40), "timeout-reply"),
    ],
    ids=str,
)
@pytest.mark.parametrize("rate", [None, 10])
async def test_a_trip_that_fails_has_a_cause(
    autojump_clock: Clock, rate: float | None, fault: Fault, cause: str
) -> None:
    """Each is lost, over a connection of its own; all of them are what was asked for."""
    async with open_memory_server(reply=techo.raw, faults=[fault]) as server:
        report = check(await techo.load(server.connect, connections=1, trips=4, rate=rate))
    assert (report.received, report.loss) == (0, 100)
    # The first connection has ended before there was anything that it could leave unread.
    possible = {cause, "eof"} if isinstance(fault, CloseUnread) else {cause}
    assert cause in causes(report)
    assert set(causes(report)) <= possible
    if isinstance(fault, Stall):  # nobody has answered in the time of one reply
        assert 1 <= report.lost <= 2
    else:
        assert (report.lost, report.unsent) == (4, 0)
        assert report.reconnects >= 3
    assert not report.never_reached
    assert report.trips_per_second == 0
    if isinstance(fault, Corrupt):
        assert "the echo differs at offset " in report.reasons[techo.FailureCause.CORRUPT]


async def test_the_lost_and_the_others_add_up_to_what_was_sent(autojump_clock: Clock) -> None:
    """With connections that end after some trips, whoever has how many under way."""
    received: list[bytes] = []

    async def answer_some(stream: MemoryStream) -> None:
        for _ in range(7):
            if not (data := await stream.receive_some(16)):
                return
            received.append(data)
            await trio.sleep(0.01)  # of the clock, which jumps
            await stream.send_all(data)
        with trio.move_on_after(1):
            while data := await stream.receive_some(16):  # and these are lost
                received.append(data)

    async with trio.open_nursery() as nursery:
        report = check(
            await techo.load(
                connecting(nursery, answer_some), connections=3, pipeline=4, trips=200, size=16
            )
        )
    assert report.received + report.lost == 200 == len(set(received))
    assert report.lost > 20
    assert causes(report) == {"eof": report.lost}
    assert report.reconnects > 10


async def test_a_slow_reply_counts_when_it_is_whole(autojump_clock: Clock) -> None:
    """Time is that of the last byte; a message that still comes is given up all the same."""
    async with open_memory_server(reply=techo.raw, faults=[Throttle(32)]) as server:
        report = check(await techo.load(server.connect, connections=1, trips=2, timeout=2.5))
        assert report.service.min == pytest.approx(2e9, rel=0.05)
        assert report.received == 2
        report = check(await techo.load(server.connect, connections=1, trips=2, timeout=1.5))
        assert causes(report) == {"timeout-reply": 2}


async def test_bytes_that_nobody_asked_for_are_corrupt(autojump_clock: Clock) -> None:
    """They are an error without a trip; connecting again is no flood."""

    async def greet(stream: MemoryStream) -> None:
        await trio.sleep(0.3)
        await stream.send_all(b"hello")
        await stream.receive_some()

    async with trio.open_nursery() as nursery:
        report = check(
            await techo.load(connecting(nursery, greet), connections=1, rate=0.1, seconds=15)
        )
    assert (report.received, report.lost) == (0, 2)
    assert causes(report) == {"corrupt": 14}
    assert report.reconnects == 13  # the last was when all was over


@pytest.mark.parametrize("options", [{"trips": 3}, {"trips": 3, "rate": 5}, {"seconds": 60}])
async def test_a_server_that_only_greets_ends_the_load(
    autojump_clock: Clock, options: dict[str, float]
) -> None:
    """Nobody has answered; and it was not asked thousands of times whether it would."""
    calls = 0

    async def greet() -> MemoryStream:
        nonlocal calls
        calls += 1
        await trio.lowlevel.checkpoint()
        ours, theirs = MemoryStream.pair()
        await theirs.send_all(b"SSH-2.0-OpenSSH_9.9")
        return ours

    load: Callable[..., Awaitable[techo.LoadReport]] = techo.load
    report = check(await load(greet, connections=2, timeout=4, **options))
    assert (report.received, set(causes(report))) == (0, {"corrupt"})
    assert "b'SSH-2.0" in report.reasons[techo.FailureCause.CORRUPT]
    assert trio.current_time() < 10 * 4
    assert calls < 1000  # of each connection, a hundred a second


@attrs.define(eq=False)
class HalfTold(trio.abc.Stream):
    """A connection that was reset: sending has met it, and receiving meets an end."""

    told: trio.Event = attrs.field(factory=trio.Event)

    async def send_all(self, _data: bytes | bytearray | memoryview) -> None:
        """Meet the reset."""
        await trio.lowlevel.checkpoint()
        self.told.set()
        raise trio.BrokenResourceError from ConnectionResetError(errno.ECONNRESET, "reset")

    async def wait_send_all_might_not_block(self) -> None:
        """It would meet the reset."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        """Meet the end, without close_notify."""
        await self.told.wait()
        raise trio.BrokenResourceError from ssl.SSLEOFError(8, "EOF")

    async def aclose(self) -> None:
        """Nothing to close."""
        await trio.lowlevel.checkpoint()


async def test_what_sending_has_met_is_the_truth_behind_an_end(autojump_clock: Clock) -> None:
    """The system tells only one side of a reset; to the other it looks like an end."""

    async def connect() -> HalfTold:
        await trio.lowlevel.checkpoint()
        return HalfTold()

    report = check(await techo.load(connect, connections=1, trips=3, timeout=4))
    assert causes(report) == {"reset": report.lost}
    assert report.lost > 0


@pytest.mark.parametrize(("idle", "lost"), [(0.75, range(1)), (1, range(1, 30))])
async def test_an_idle_connection_that_ends_keeps_nobody_waiting(
    autojump_clock: Clock, idle: float, lost: range
) -> None:
    """Not even if that is just when the next trip is sent, which is lost then."""
    async with open_memory_server(limits=techo.Limits(idle_timeout=idle)) as server:
        report = check(await techo.load(server.connect, connections=2, rate=1, seconds=30))
    assert report.lost in lost
    assert (report.received, report.unsent) == (30 - report.lost, 0)
    assert report.reconnects > 30
    assert trio.current_time() < 30 + 1


@pytest.mark.parametrize(
    ("options", "silence"),
    [({"seconds": 4}, 4 - 0.24), ({"trips": 4000, "rate": 1000, "timeout": 0.5}, 0.5)],
    ids=["seconds", "trips"],
)
async def test_a_dead_server_gets_no_credit_for_what_it_did_before(
    autojump_clock: Clock, options: dict[str, Any], silence: float
) -> None:
    """The rate is over all of the time that was asked for, an outage over what it took.

    Where only trips were asked for, a load gives up when nothing comes back any more.
    """
    async with trio.open_nursery() as nursery:
        servers: list[Any] = []

        async def serve() -> None:
            async with open_memory_server(reply=techo.raw, faults=[Delay(0.01)]) as server:
                servers.append(server)
                await trio.sleep(0.24)  # of the clock, which jumps

        async def connect() -> MemoryStream:
            stream: MemoryStream = await servers[0].connect()
            return stream

        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        report = check(await techo.load(connect, connections=1, **options))
    assert report.seconds == 4
    assert report.trips_per_second == report.received / 4 < 30
    assert report.outages == 1
    assert report.outage_seconds == pytest.approx(silence, abs=0.3)  # which includes its drain
    gave_up = report.gave_up_after_seconds
    if "seconds" in options:
        assert gave_up is None
    else:
        assert gave_up == pytest.approx(0.24 + silence, abs=0.5)  # between two attempts
        assert f"gave up after {gave_up:.3f} s: nothing came back any more" in str(report)


@pytest.mark.parametrize(
    ("options", "seconds"), [({"trips": 2, "rate": 5}, 0.4), ({"seconds": 3, "rate": 1}, 3)]
)
async def test_a_rate_that_was_asked_for_is_not_exceeded(
    autojump_clock: Clock, options: dict[str, Any], seconds: float
) -> None:
    """Two trips at five a second take two fifths of a second, not one."""
    async with open_memory_server(reply=techo.raw) as server:
        report = check(await techo.load(server.connect, connections=1, **options))
    assert report.seconds == pytest.approx(seconds)
    assert report.trips_per_second == pytest.approx(options["rate"])


async def test_one_of_several_connections_that_fails_is_no_outage(
    autojump_clock: Clock,
) -> None:
    """Something came back all the time; what was lost is counted as lost."""
    faults = [Truncate(after=640, every=2), Delay(0.01)]
    async with open_memory_server(reply=techo.raw, faults=faults) as server:
        report = check(await techo.load(server.connect, connections=4, seconds=5))
    assert report.lost > 0
    assert report.outage_seconds < 0.05
