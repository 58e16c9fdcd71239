"""Ping whose connection breaks, or whose user does not wait: in memory, in virtual time."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable

import attrs
import pytest
import trio
import trio.testing

import techo
from pings import see
from techo import testing
from techo.testing import MemoryStream, open_memory_server

pytestmark = pytest.mark.usefixtures("unix_time")
EPOCH = 1_000_000.0
"""Unix time when a test begins."""

Script = Callable[[MemoryStream], Awaitable[None]]


@attrs.define
class Peers:
    """One server after another at the same address, each with a script for its connection."""

    nursery: trio.Nursery
    scripts: list[Script | OSError | float]
    """What each does; or why there is no connection; or how long one takes, which echoes."""
    streams: list[MemoryStream] = attrs.field(factory=list)
    """The client's ends so far."""

    async def connect(self) -> MemoryStream:
        """Connect to the next."""
        script = self.scripts.pop(0)
        if isinstance(script, OSError):
            raise script
        if isinstance(script, float):
            await trio.sleep(script)
            script = echo
        ours, theirs = MemoryStream.pair()
        self.streams.append(ours)
        self.nursery.start_soon(script, theirs)
        return ours


async def echo(stream: MemoryStream) -> None:
    """Send back everything."""
    async for chunk in stream:
        await stream.send_all(chunk)


async def read(stream: MemoryStream) -> None:
    """Take everything, and answer nothing."""
    async for _ in stream:
        pass


def resetting(after: float) -> Script:
    """Answer nothing, and break the connection then."""

    async def script(stream: MemoryStream) -> None:
        await trio.sleep(after)
        stream.reset()

    return script


@pytest.fixture
def peers(nursery: trio.Nursery) -> Peers:
    """No server yet."""
    return Peers(nursery, [])


async def test_a_break_costs_what_is_under_way_and_no_more(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """All of that fails at once; the next tick connects again, and is answered."""
    peers.scripts = [resetting(after=2.75), echo]
    seen = await see(techo.ping(peers.connect, count=5, timeout=9))
    assert list(zip(seen.told, seen.times, strict=True)) == [
        *[((seq, "reset"), 2.75) for seq in (1, 2, 3)],
        ((4, "reply"), 3),
        ((5, "reply"), 4),
    ]
    assert (seen.statistics.lost, seen.statistics.reconnects) == (3, 1)
    assert seen.statistics.setup["connect"].count == 2


async def test_a_restart_shows_exactly_how_long_the_server_was_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """From the first probe without an answer to the first with one; before, a warning."""
    servers: list[testing.MemoryServer] = []

    async def connect() -> trio.abc.Stream:
        return await servers[-1].connect()

    async def serve(begin: float, end: float) -> None:
        await trio.sleep_until(begin)
        async with open_memory_server(reply=techo.raw) as server:
            servers.append(server)
            await trio.sleep_until(end)

    async with trio.open_nursery() as nursery:
        for begin, end in ((0, 2.25), (4.5, 6.25), (10.5, 13.25), (13.75, 16)):
            nursery.start_soon(serve, begin, end)
        await trio.testing.wait_all_tasks_blocked()
        seen = await see(techo.ping(connect, count=16))
    assert seen.words == " ".join(
        [
            *["reply"] * 3,
            *["eof", "refused", "refused"],  # probe by probe, but for what ended the connection
            *["reply"] * 2,
            *["eof", *["refused"] * 4],
            *["reply"] * 3,
            "eof",
            *["reply"] * 2,
        ]
    )
    found = seen.statistics
    assert found.longest_outage == techo.Outage(EPOCH + 7, EPOCH + 11, 4, 4)
    assert (found.outages, found.outage_seconds) == (2, 2 + 4)
    assert (found.reconnects, found.failures) == (3, {techo.FailureCause.REFUSED: 6})


async def test_an_outage_that_goes_on_ends_with_its_last_failure(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Whatever comes late of it; and asking does not end it."""

    async def late(stream: MemoryStream) -> None:
        data = await stream.receive_some()
        await trio.sleep_until(1.5)
        await stream.send_all(data)

    peers.scripts = [late]
    async with techo.ping(peers.connect, interval=2, timeout=0.5) as ping:
        spans = []
        for _ in range(4):
            await anext(ping)
            outage = ping.statistics().longest_outage
            assert outage is not None
            spans.append((outage.since, outage.until, outage.seconds, outage.probes))
    assert spans == [
        (EPOCH, None, 0.5, 1),
        (EPOCH, None, 0.5, 1),  # late, and changes nothing
        (EPOCH, None, 2.5, 2),
        (EPOCH, None, 4.5, 3),
    ]
    assert ping.statistics().outages == 1


async def test_an_outage_ends_when_the_probe_is_sent_that_is_answered(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Behind its connecting: until then nobody could have answered."""
    peers.scripts = [refusal(errno.ECONNREFUSED), 0.75]
    seen = await see(techo.ping(peers.connect, count=2))
    assert seen.statistics.longest_outage == techo.Outage(EPOCH, EPOCH + 1.75, 1.75, 1)


def refusal(number: int) -> OSError:
    """The system's error."""
    return OSError(number, os.strerror(number))


def summed_up(error: OSError) -> OSError:
    """As trio has it, where several addresses have failed."""
    whole = OSError("all attempts to connect failed")
    whole.__cause__ = ExceptionGroup("", [error, refusal(errno.EHOSTUNREACH)])
    return whole


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (refusal(errno.ECONNREFUSED), "refused", "connection refused"),
        (refusal(errno.ENOENT), "refused", "no such file or directory"),
        (summed_up(refusal(errno.ECONNREFUSED)), "refused", "connection refused"),
        (refusal(errno.ENETUNREACH), "unreachable", "network is unreachable"),
        (refusal(errno.EACCES), "local", "permission denied"),
        (refusal(errno.ETIMEDOUT), "timeout-connect", "connection timed out"),
        (refusal(errno.ECONNRESET), "reset", "connection reset by peer"),
        (socket.gaierror(socket.EAI_NONAME, "no such name"), "dns", "unknown host (no such"),
        (socket.gaierror("no such name"), "dns", "unknown host (no such name)"),
        (OSError("just so"), "unreachable", "just so"),
        (ssl.SSLError(1, "just so"), "tls", "TLS failed (just so)"),
        (ssl.SSLCertVerificationError(1, "just so"), "tls", "bad certificate (just so)"),
        (ConnectionRefusedError(), "refused", "ConnectionRefusedError"),
        (9.0, "timeout-connect", "no connection within 1 s"),
    ],
)
async def test_causes_of_no_connection(
    autojump_clock: trio.testing.MockClock,
    peers: Peers,
    error: OSError | float,
    cause: str,
    reason: str,
) -> None:
    """It fails the probe, which is one of those that were due; the next tick tries again."""
    peers.scripts = [error, echo]
    seen = await see(techo.ping(peers.connect, count=2, interval=2))
    assert seen.told == [(1, cause), (2, "reply")]
    assert isinstance(seen.results[0], techo.PingFailure)
    assert reason in seen.results[0].reason
    assert seen.statistics.failures == {techo.FailureCause(cause): 1}
    assert seen.statistics.reconnects == 0
    assert not seen.statistics.never_reached


async def test_connecting_is_timed_apart_from_the_echo(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """And the first probe's time begins when it is sent."""
    peers.scripts = [0.75]
    seen = await see(techo.ping(peers.connect, count=2))
    assert seen.statistics.setup == {"connect": techo.Histogram.of([750_000_000])}
    assert seen.statistics.latency.max == 0
    assert seen.times == [0.75, 1]


async def test_cancelled_while_connecting_it_was_connecting_that_took_too_long(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Who is cancelled while asking changes nothing of that."""
    peers.scripts = [99.0, 99.0, 99.0]
    async with techo.ping(peers.connect, count=2, interval=4) as ping:
        with trio.move_on_after(0.25):
            await anext(ping)
        result = await anext(ping)
        assert trio.current_time() == 1
        assert isinstance(result, techo.PingFailure)
        assert result.cause is techo.FailureCause.TIMEOUT_CONNECT
        await anext(ping)
    assert ping.statistics().failures == {techo.FailureCause.TIMEOUT_CONNECT: 2}
    assert ping.statistics().never_reached


async def test_what_is_due_while_connecting_in_vain_is_lost_too(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """A server that lets nobody in is away for as many probes as one that refuses."""
    peers.scripts = [99.0, echo]
    seen = await see(techo.ping(peers.connect, count=20, interval=0.25, timeout=2.1))
    assert seen.told == [
        *((seq, "timeout-connect") for seq in range(1, 10)),
        *((seq, "reply") for seq in range(10, 21)),
    ]
    assert seen.times == [*[2.1] * 9, *(0.25 * tick for tick in range(9, 20))]
    assert seen.statistics.loss == 45
    outage = seen.statistics.longest_outage
    assert outage is not None
    assert (outage.seconds, outage.probes) == (2.25, 9)
    assert outage.since == EPOCH


async def never_read(stream: MemoryStream) -> None:
    """Let everything wait until long after the test."""
    await trio.sleep(99)
    await stream.aclose()


async def test_what_is_due_while_a_probe_is_stuck_is_lost_too(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Nothing could have been sent behind it."""
    peers.scripts = [never_read, echo]
    ping = techo.ping(peers.connect, count=8, interval=0.25, timeout=1.1, size=10**6)
    seen = await see(ping)
    assert seen.words == "timeout-reply " * 5 + "reply reply reply"


async def test_a_probe_sent_in_part_costs_its_connection(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Nothing else can be sent behind it; the next probe opens another."""
    peers.scripts = [never_read, echo]
    async with techo.ping(peers.connect, count=2, interval=2, size=10**6) as ping:
        with trio.move_on_after(0.5):
            await anext(ping)
        assert (ping.statistics().lost, ping.statistics().in_flight) == (0, 1)
        failure = await anext(ping)
        assert trio.current_time() == 1
        assert failure == techo.PingFailure(
            1, techo.FailureCause.TIMEOUT_REPLY, "not sent within 1 s", EPOCH + 1
        )
        assert isinstance(await anext(ping), techo.PingReply)
    assert ping.statistics().reconnects == 1


async def test_what_comes_back_before_all_is_sent_is_taken_in(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Or a server that echoes at once would wait for us, and we for it."""
    peers.scripts = [echo]
    seen = await see(techo.ping(peers.connect, count=2, size=10**6))
    assert seen.words == "reply reply"


@attrs.define(eq=False)
class ResetInSecret(trio.abc.Stream):
    """A connection that was reset, of which only the first to send hears (tcp(7))."""

    errors: list[OSError | None]
    """What becomes of each probe that is sent."""
    over: trio.Event = attrs.field(factory=trio.Event)

    async def send_all(self, _data: bytes | bytearray | memoryview) -> None:
        """Send, or meet what there is to meet."""
        await trio.lowlevel.checkpoint()
        error = self.errors.pop(0)
        if not self.errors:
            self.over.set()
        if error is not None:
            raise trio.BrokenResourceError from error

    async def wait_send_all_might_not_block(self) -> None:
        """It never does."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        """Meet what looks like an end, when all has been sent."""
        await self.over.wait()
        return b""

    async def aclose(self) -> None:
        """Nothing to close."""
        await trio.lowlevel.checkpoint()


async def test_who_sends_once_more_does_not_forget_the_reset(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The second time it is a broken pipe, and to the receiving side an end."""
    reset, pipe = refusal(errno.ECONNRESET), refusal(errno.EPIPE)

    async def connect() -> ResetInSecret:
        await trio.lowlevel.checkpoint()
        return ResetInSecret([None, reset, pipe])

    seen = await see(techo.ping(connect, count=3, interval=0.25))
    assert seen.told == [(1, "reset"), (2, "reset"), (3, "reset")]


async def test_a_server_that_ends_while_a_probe_is_sent_is_told_by_its_end(
    autojump_clock: trio.testing.MockClock, peers: Peers
) -> None:
    """Sending fails as well then; the receiving side has the news, and what came before."""

    async def end(stream: MemoryStream) -> None:
        await trio.sleep(0.5)
        await stream.send_all(await stream.receive_some(100))
        await stream.send_eof()
        await stream.receive_some(10**5)
        await stream.aclose()

    peers.scripts = [end]
    seen = await see(techo.ping(peers.connect, count=1, size=10**6))
    assert seen.told == [(1, "short")]


async def test_a_reset_that_only_the_sending_side_sees(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The other one sees an end, and sooner; that it was a reset counts."""
    closed, receiving = trio.Event(), trio.testing.MemoryReceiveStream()

    async def fail() -> None:
        receiving.put_eof()
        await closed.wait()
        await trio.sleep(0.25)
        raise trio.BrokenResourceError from ConnectionResetError()

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        sending = trio.testing.MemorySendStream(send_all_hook=fail, close_hook=closed.set)
        return trio.StapledStream(sending, receiving)

    seen = await see(techo.ping(connect, count=1))
    assert seen.told == [(1, "reset")]
