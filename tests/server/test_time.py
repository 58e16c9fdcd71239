"""Everything about time, in virtual time: idle, stalled, lifetime, drain. Asserted exactly."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

import techo
from helpers import ended, receive_until_end
from techo._server.conversation import PIECE
from techo._server.draining import _QUIET

Pair = tuple[trio.StapledStream[trio.abc.SendStream, trio.abc.ReceiveStream], trio.abc.Stream]

LIMITS = techo.Limits(idle_timeout=60, close_timeout=1, drain_timeout=5)


@pytest.fixture
def service() -> techo.EchoService:
    """Return a service that answers with the same bytes."""
    return techo.EchoService(techo.raw, limits=LIMITS)


async def test_a_silent_peer_is_closed_gracefully_after_exactly_the_idle_timeout(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """The end comes after 60 s; a peer that closes in turn does not wait any longer."""
    ours, theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    nursery.start_soon(service.handle, theirs)
    assert await ours.receive_some() == b""
    assert trio.current_time() - start == 60
    await ours.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert ended(service.statistics()) == {"idle": 1}
    assert trio.current_time() - start == 60


async def test_a_peer_that_does_not_close_in_turn_is_closed_after_the_close_timeout(
    autojump_clock: trio.testing.MockClock, service: techo.EchoService
) -> None:
    """The graceful close takes no longer than the limit says."""
    ours, theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    await service.handle(theirs)
    assert trio.current_time() - start == 61
    assert ended(service.statistics()) == {"idle": 1}
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"too late")


async def test_one_byte_a_minute_less_a_second_is_alive(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """Progress moves the idle deadline, and only progress does."""
    ours, theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    nursery.start_soon(service.handle, theirs)
    for _ in range(10):
        await trio.sleep(59)
        await ours.send_all(b"x")
        assert await ours.receive_some() == b"x"
    assert await ours.receive_some() == b""
    assert trio.current_time() - start == 10 * 59 + 60


async def test_a_peer_that_never_reads_is_stalled_after_exactly_the_idle_timeout(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """It is closed without a graceful close, which it would not read either."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    start = trio.current_time()

    async def send_later() -> None:
        await trio.sleep(7)
        await ours.send_all(b"are you there?")

    nursery.start_soon(send_later)
    await service.handle(theirs)
    assert trio.current_time() - start == 67
    assert ended(service.statistics()) == {"stalled": 1}


async def test_a_slow_reader_that_still_reads_is_alive(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Every piece that a peer takes counts as progress, however long the whole reply lasts."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    service = techo.EchoService(lambda chunk: chunk * PIECE * 5)
    nursery.start_soon(service.handle, theirs)
    await ours.send_all(b"x")
    for _ in range(5):
        await trio.sleep(59)
        assert len(await ours.receive_some(PIECE)) == PIECE
    await ours.send_eof()
    assert await receive_until_end(ours) == b""
    await trio.testing.wait_all_tasks_blocked()
    assert ended(service.statistics()) == {"eof": 1}
    assert service.statistics().bytes_out == 5 * PIECE


async def test_a_lifetime_ends_a_busy_connection(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Progress does not help against a lifetime."""
    limits = techo.Limits(idle_timeout=60, lifetime=100)
    service = techo.EchoService(techo.raw, limits=limits)
    ours, theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    nursery.start_soon(service.handle, theirs)
    await trio.sleep(50)
    await ours.send_all(b"x")
    assert await receive_until_end(ours) == b"x"
    assert trio.current_time() - start == 100
    await ours.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert ended(service.statistics()) == {"expired": 1}


async def test_a_lifetime_ends_a_stuck_reply(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The outcome is expired even if a reply is pending; then there is no graceful close."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(lifetime=10))
    ours, theirs = trio.testing.lockstep_stream_pair()
    start = trio.current_time()
    nursery.start_soon(ours.send_all, b"x")
    await service.handle(theirs)
    assert trio.current_time() - start == 10
    assert ended(service.statistics()) == {"expired": 1}


async def test_switched_off_limits_wait_for_ever(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """With math.inf a connection may be silent for years."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(idle_timeout=math.inf))
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await trio.sleep(10**8)
    await ours.send_all(b"x")
    assert await ours.receive_some() == b"x"
    await ours.send_eof()
    assert await ours.receive_some() == b""


async def test_drain_ends_an_idle_connection_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """A connection that was quiet for long gets end-of-file in the same moment."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await trio.sleep(10)
    start = trio.current_time()
    nursery.start_soon(service.drain)
    assert await ours.receive_some() == b""
    await ours.aclose()
    await service.drain()
    assert trio.current_time() == start
    assert ended(service.statistics()) == {"drained": 1}


async def test_drain_answers_a_message_to_its_end(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """A sender in mid-message goes on; the pause after it is its end."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await ours.send_all(b"0")
    await trio.testing.wait_all_tasks_blocked()
    start = trio.current_time()
    nursery.start_soon(service.drain)
    for digit in b"12345":
        await trio.sleep(0.2)
        await ours.send_all(bytes([digit]))
    assert await receive_until_end(ours) == b"012345"
    assert trio.current_time() - start == pytest.approx(5 * 0.2 + _QUIET)
    await ours.aclose()
    await service.drain()
    assert ended(service.statistics()) == {"drained": 1}


@pytest.mark.parametrize("pipelined", [1, 3, 1000])
async def test_drain_ends_a_chatterbox_between_two_messages(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    service: techo.EchoService,
    pipelined: int,
) -> None:
    """A peer that sends on with every reply is made to pause, and no reply is pending then."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    message = b"and another thing"
    start = trio.current_time()
    sent = received = 0
    while sent <= received // len(message) + pipelined:
        await ours.send_all(message)
        sent += 1
    while chunk := await ours.receive_some():
        received += len(chunk)
        if sent == pipelined + 1:
            nursery.start_soon(service.drain)
        if trio.current_time() > start:
            break
        while sent < received // len(message) + pipelined:
            await ours.send_all(message)
            sent += 1
    assert received == sent * len(message)
    assert await ours.receive_some() == b""
    assert trio.current_time() - start == _QUIET
    await ours.aclose()
    await service.drain()
    assert ended(service.statistics()) == {"drained": 1}


async def test_drain_goes_on_for_a_stream_without_pauses_until_its_time_is_over(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """Replies are held back, but no more of them than a drain should keep."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    sent = received = most = 0

    async def send() -> None:
        nonlocal sent, most
        while True:
            await ours.send_all(bytes(30_000))
            sent += 30_000
            await trio.sleep(0.1)
            most = max(most, sent - received)

    async def receive() -> None:
        nonlocal received
        async for chunk in ours:
            received += len(chunk)

    async with trio.open_nursery() as peer:
        peer.start_soon(send)
        peer.start_soon(receive)
        await trio.sleep(1)
        start = trio.current_time()
        await service.drain()
        assert trio.current_time() - start == 5
        peer.cancel_scope.cancel()
    assert ended(service.statistics()) == {"aborted": 1}
    assert received > 40 * 30_000
    assert 0 < most < 200_000


@pytest.mark.parametrize("interval", [0.01, 0.1, 0.2])
async def test_who_never_pauses_is_answered_until_the_drain_is_over(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    service: techo.EchoService,
    interval: float,
) -> None:
    """No reply is held back for longer than a pause and the time to the next message."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    sent: list[float] = []
    answered: list[float] = []

    async def send() -> None:
        for number in range(round(6 / interval)):
            sent.append(trio.current_time())
            await ours.send_all(bytes([number % 256]))
            await trio.sleep(interval)

    async def receive() -> None:
        async for chunk in ours:
            answered.extend([trio.current_time()] * len(chunk))

    async with trio.open_nursery() as peer:
        peer.start_soon(send)
        peer.start_soon(receive)
        await trio.sleep(interval / 2)
        await service.drain()
        over = trio.current_time()
        peer.cancel_scope.cancel()
    assert over == pytest.approx(5 + interval / 2)
    delays = [then - when for when, then in zip(sent, answered, strict=False)]
    assert max(delays) < _QUIET + interval + 1e-6
    assert len(delays) >= (5 - _QUIET - interval) / interval
    assert ended(service.statistics()) == {"aborted": 1}


async def test_drain_without_time_ends_the_idle_and_aborts_the_others(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Even then a connection without a pending reply is drained, not aborted."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=0))
    stuck, their_stuck = trio.testing.lockstep_stream_pair()
    _idle, their_idle = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, their_stuck)
    nursery.start_soon(service.handle, their_idle)
    await stuck.send_all(b"x")
    start = trio.current_time()
    await service.drain()
    assert trio.current_time() == start
    assert ended(service.statistics()) == {"drained": 1, "aborted": 1}


async def test_drain_aborts_what_is_still_pending_after_the_drain_timeout(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """A reply that is not read does not delay the end."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await ours.send_all(b"x")
    start = trio.current_time()
    await service.drain()
    assert trio.current_time() - start == 5
    assert ended(service.statistics()) == {"aborted": 1}


async def test_a_graceful_close_is_not_cut_short_by_a_drain_but_by_its_end(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The close timeout goes on counting, within the drain timeout."""
    limits = techo.Limits(idle_timeout=10, close_timeout=100, drain_timeout=5)
    service = techo.EchoService(techo.raw, limits=limits)
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    assert await ours.receive_some() == b""
    start = trio.current_time()
    await service.drain()
    assert trio.current_time() - start == 5
    assert ended(service.statistics()) == {"idle": 1}


async def test_little_time_to_drain_makes_short_pauses_count(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A pause is a twentieth of the drain timeout, if that is less than 0.25 s."""
    service = techo.EchoService(techo.raw, limits=techo.Limits(drain_timeout=1))
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await ours.send_all(b"x")
    assert await ours.receive_some() == b"x"
    start = trio.current_time()
    nursery.start_soon(service.drain)
    assert await ours.receive_some() == b""
    assert trio.current_time() - start == pytest.approx(0.05)


async def test_cancelling_a_drain_aborts_what_is_left(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """A cancelled drain ends everything at once, and nothing is accepted again."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(service.handle, theirs)
    await ours.send_all(b"x")
    start = trio.current_time()
    with trio.move_on_after(1):
        await service.drain()
    await service.drain()  # waits for the end, which is near
    assert trio.current_time() - start == 1
    assert ended(service.statistics()) == {"aborted": 1}
    with pytest.raises(RuntimeError, match="was drained"):
        await service.serve("tcp://127.0.0.1:0")


async def test_a_newcomer_during_a_drain_is_answered_and_let_go(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, service: techo.EchoService
) -> None:
    """A connection accepted in the last moment is drained like the others."""
    stuck, their_stuck = trio.testing.lockstep_stream_pair()
    nursery.start_soon(service.handle, their_stuck)
    await stuck.send_all(b"x")
    nursery.start_soon(service.drain)
    await trio.testing.wait_all_tasks_blocked()
    ours, theirs = trio.testing.memory_stream_pair()
    start = trio.current_time()
    await ours.send_all(b"hello")
    nursery.start_soon(service.handle, theirs)
    assert await receive_until_end(ours) == b"hello"
    assert trio.current_time() - start == _QUIET
    await ours.aclose()
    await service.drain()
    assert ended(service.statistics()) == {"drained": 1, "aborted": 1}
