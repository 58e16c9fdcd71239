"""The portable loop, once a connection is busy: exact ends, and bytes that come with one.

A message can be handed over in the very turn in which the time is up. Here the clock is moved
by hand in that turn; which of two tasks goes first is trio's to draw, so that there are many of
them.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

import techo
from helpers import ended, receive_until_end
from techo._server.conversation import PIECE
from techo._server.draining import _QUIET

Clock = trio.testing.MockClock

LIMITS = techo.Limits(idle_timeout=60, lifetime=1000, close_timeout=1, drain_timeout=5)

MANY = 20
"""Connections at once: that all of them see the same order of two tasks is unlikely."""


@pytest.fixture(params=[0, 10])
def trips(request: pytest.FixtureRequest) -> int:
    """Round trips before, after which a connection is busy, or not."""
    return int(request.param)


@pytest.fixture
def service() -> techo.EchoService:
    """Return a service that answers with the same bytes."""
    return techo.EchoService(techo.raw, limits=LIMITS)


End = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


async def connect(
    service: techo.EchoService, nursery: trio.Nursery, trips: int
) -> tuple[End, trio.testing.MemoryReceiveStream]:
    """Return our end of a connection that has made so many round trips, and what they read."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    for _ in range(trips):
        await ours.send_all(b"x")
        assert await ours.receive_some() == b"x"
    await trio.testing.wait_all_tasks_blocked()
    return ours, theirs.receive_stream


async def check_ends(service: techo.EchoService, outcome: str, count: int) -> None:
    """Check that all connections are over as soon as nothing more can be done, and how."""
    await trio.testing.wait_all_tasks_blocked()
    assert not service.statistics().active
    assert ended(service.statistics()) == {outcome: count}


async def test_a_busy_connection_is_idle_after_exactly_the_timeout(
    autojump_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """Messages move the deadline; the last of them says when the end is."""
    ours, _ = await connect(service, nursery, trips)
    for seconds in (59, 59, 7):
        await trio.sleep(seconds)
        await ours.send_all(b"x")
        assert await ours.receive_some() == b"x"
    assert await ours.receive_some() == b""
    assert trio.current_time() == 59 + 59 + 7 + 60
    await ours.aclose()
    await check_ends(service, "idle", 1)


@pytest.mark.parametrize(("lifetime", "outcome"), [(1000, "stalled"), (100, "expired")])
async def test_a_reply_that_nobody_reads_ends_a_busy_connection_in_time(
    autojump_clock: Clock, nursery: trio.Nursery, trips: int, lifetime: float, outcome: str
) -> None:
    """The deadline of a send is exact, too, although it has moved since it was last set."""
    limits = techo.Limits(idle_timeout=60, lifetime=lifetime)
    service = techo.EchoService(techo.raw, limits=limits)
    ours, theirs = trio.testing.lockstep_stream_pair()

    async def send() -> None:
        for _ in range(trips):
            await ours.send_all(b"x")
            assert await ours.receive_some() == b"x"
        await trio.sleep(55)
        await ours.send_all(b"x")

    nursery.start_soon(send)
    await service.handle(theirs)
    await check_ends(service, outcome, 1)
    assert trio.current_time() == min(55 + 60, lifetime)


async def test_a_lifetime_ends_a_busy_connection_exactly(
    autojump_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """However many messages move, they do not move that deadline."""
    ours, _ = await connect(service, nursery, trips)
    for number in range(1, 20):
        await trio.sleep_until(50 * number)
        await ours.send_all(b"x")
        assert await ours.receive_some() == b"x"
    assert await ours.receive_some() == b""
    assert trio.current_time() == 1000
    await ours.aclose()
    await check_ends(service, "expired", 1)


async def test_a_drain_in_mid_reply_ends_a_busy_connection_when_it_has_been_read(
    autojump_clock: Clock, nursery: trio.Nursery, trips: int
) -> None:
    """While a reply is pending a pause does not count; after it, it does."""
    service = techo.EchoService(techo.raw, limits=LIMITS)
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(service.handle, theirs)
    for _ in range(trips):
        await ours.send_all(b"x")
        assert await ours.receive_some() == b"x"
    await ours.send_all(b"y")
    nursery.start_soon(service.drain)
    await trio.sleep(3)
    assert await receive_until_end(ours) == b"y"
    assert trio.current_time() == 3 + _QUIET
    await ours.aclose()
    await check_ends(service, "drained", 1)


async def test_a_drain_holds_back_the_replies_of_a_busy_connection(
    autojump_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """The wait that goes on as the drain begins answers nothing at once."""
    ours, _ = await connect(service, nursery, trips)
    await ours.send_all(b"x")
    assert await ours.receive_some() == b"x"
    nursery.start_soon(service.drain)
    await trio.sleep(0.1)
    await ours.send_all(b"y")
    assert await ours.receive_some() == b"y"
    assert trio.current_time() == 0.1 + _QUIET
    assert await ours.receive_some() == b""
    await ours.aclose()
    await check_ends(service, "drained", 1)


async def test_bytes_that_come_as_the_idle_timeout_ends_are_answered(
    mock_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """They were handed over, so they are progress."""
    peers = [await connect(service, nursery, trips) for _ in range(MANY)]
    for _, their_input in peers:
        their_input.put_data(b"late")
    mock_clock.jump(61)
    for ours, _ in peers:
        assert await ours.receive_some() == b"late"
        await ours.send_eof()
        assert await ours.receive_some() == b""
        await ours.aclose()
    await check_ends(service, "eof", MANY)


async def test_bytes_that_come_as_the_lifetime_ends_are_answered(
    mock_clock: Clock, nursery: trio.Nursery, trips: int
) -> None:
    """They are the last: the end comes next."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(lifetime=10))
    peers = [await connect(service, nursery, trips) for _ in range(MANY)]
    for _, their_input in peers:
        their_input.put_data(b"late")
    mock_clock.jump(11)
    for ours, _ in peers:
        assert await receive_until_end(ours) == b"late"
        await ours.aclose()
    await check_ends(service, "expired", MANY)


async def test_bytes_that_come_as_a_drain_begins_are_answered(
    autojump_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """They are held back for a pause, as everything is that comes later."""
    peers = [await connect(service, nursery, trips) for _ in range(MANY)]
    await trio.sleep(10)
    for _, their_input in peers:
        their_input.put_data(b"late")
    nursery.start_soon(service.drain)
    for ours, _ in peers:
        assert await receive_until_end(ours) == b"late"
        assert trio.current_time() == 10 + _QUIET
        await ours.aclose()
    await check_ends(service, "drained", MANY)


async def test_bytes_that_come_as_a_drain_ends_the_pause_are_answered(
    mock_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """The pause is over, and yet they came before its end was seen."""
    peers = [await connect(service, nursery, trips) for _ in range(MANY)]
    nursery.start_soon(service.drain)
    await trio.testing.wait_all_tasks_blocked()
    for _, their_input in peers:
        their_input.put_data(b"late")
    mock_clock.jump(_QUIET)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(_QUIET)
    for ours, _ in peers:
        assert await receive_until_end(ours) == b"late"
        await ours.aclose()
    await check_ends(service, "drained", MANY)


async def test_who_is_aborted_as_bytes_come_has_ended_at_once(
    mock_clock: Clock, nursery: trio.Nursery, trips: int
) -> None:
    """A drain without time waits for no reply, and nothing is left behind."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=0))
    peers = [await connect(service, nursery, trips) for _ in range(MANY)]
    for _, their_input in peers:
        their_input.put_data(b"late")
    await service.drain()
    assert not service.statistics().active
    assert set(ended(service.statistics())) <= {"aborted", "drained"}
    assert trio.current_time() == 0


class Held(trio.abc.HalfCloseableStream):
    """A stream whose next sends wait until they are let go."""

    def __init__(self) -> None:
        self.there, self._inbox = trio.open_memory_channel[bytes](100)
        self.may_go = trio.Event()
        self.may_go.set()
        self.sent = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, once that may be."""
        await trio.lowlevel.checkpoint()
        await self.may_go.wait()
        self.sent += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for nothing."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002  -- trio's
        """Receive what was put there."""
        return await self._inbox.receive()

    async def send_eof(self) -> None:
        """Send nothing."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close."""
        await trio.lowlevel.checkpoint()


async def test_a_piece_that_leaves_as_the_idle_timeout_ends_is_progress(
    mock_clock: Clock, nursery: trio.Nursery, service: techo.EchoService, trips: int
) -> None:
    """So the rest of the reply follows."""
    held = [Held() for _ in range(MANY)]
    for each in held:
        nursery.start_soon(service.handle, each)
        for _ in range(trips):
            each.there.send_nowait(b"x")
    await trio.testing.wait_all_tasks_blocked()
    for each in held:
        each.may_go = trio.Event()
        each.there.send_nowait(bytes(3 * PIECE))
    await trio.testing.wait_all_tasks_blocked()
    for each in held:
        each.may_go.set()
    mock_clock.jump(61)
    await trio.testing.wait_all_tasks_blocked()
    assert [each.sent for each in held] == [trips + 3 * PIECE] * MANY
    for each in held:
        each.there.send_nowait(b"")
    await check_ends(service, "eof", MANY)


async def test_what_ends_programs_leaves_a_busy_connection_as_it_is(trips: int) -> None:
    """SystemExit from a reply is in no group, as it is in none from any handler."""

    def leave(chunk: bytes) -> bytes:
        if chunk == b"goodbye":
            raise SystemExit("goodbye")
        return chunk

    service, stream = techo.EchoService(leave), Held()
    for _ in range(trips):
        stream.there.send_nowait(b"x")
    stream.there.send_nowait(b"goodbye")
    with pytest.raises(SystemExit, match="goodbye"):
        await service.handle(stream)
    assert ended(service.statistics()) == {"aborted": 1}
