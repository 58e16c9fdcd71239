"""Parking: who comes while the server is full waits for a place, the oldest first."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import techo
from helpers import ended, until_ended
from techo.testing import MemoryListener

Clock = trio.testing.MockClock


async def trip(stream: trio.abc.Stream, data: bytes = b"hello") -> None:
    """Make one round trip."""
    await stream.send_all(data)
    assert await stream.receive_some() == data


async def test_the_oldest_takes_the_place_that_is_free(autojump_clock: Clock) -> None:
    """It was accepted and not read; what it had sent is answered then."""
    listener = MemoryListener()
    limits = techo.Limits(max_connections=1, when_full="park", handshake_timeout=100)
    async with techo.open_server(listener, reply=techo.raw, limits=limits) as server:
        first = await listener.connect()
        await trip(first)
        waiting = []
        for number in range(3):
            waiting.append(await listener.connect())
            await waiting[-1].send_all(b"%d" % number)
            await trio.sleep(1)
        found = server.statistics()
        assert (found.active, found.parked, found.chunks) == (4, 3, 1)
        before = first
        for number, stream in enumerate(waiting):
            await before.aclose()
            assert await stream.receive_some() == b"%d" % number
            assert server.statistics().parked == 2 - number
            await trip(stream)
            before = stream
        await before.aclose()
        assert ended(await until_ended(server, 4)) == {"eof": 4}


async def test_a_parked_connection_has_the_time_of_a_handshake(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Then it is refused, and who comes after it moves up; the idle timeout begins afresh."""
    listener = MemoryListener()
    limits = techo.Limits(
        max_connections=1, when_full="park", handshake_timeout=5, idle_timeout=20
    )
    start = trio.current_time()
    async with techo.open_server(listener, reply=techo.raw, limits=limits) as server:
        await listener.connect()  # which stays silent for 20 s
        late = await listener.connect()
        assert await late.receive_some() == b""
        assert trio.current_time() - start == 5
        await trio.sleep(12)
        last = await listener.connect()
        await last.send_all(b"x")
        assert await last.receive_some() == b"x"
        assert trio.current_time() - start == 21  # with a second of graceful close
        assert await last.receive_some() == b""
        assert trio.current_time() - start == 41
        assert ended(await until_ended(server, 3)) == {"idle": 2, "refused": 1}
    assert "max-connections 1 reached; refused" in caplog.text


async def test_there_is_room_for_so_many_parked_ones(autojump_clock: Clock) -> None:
    """One more is refused at once; a drain ends those that are parked."""
    listener = MemoryListener()
    limits = techo.Limits(max_connections=1, when_full="park", max_parked=2)
    async with techo.open_server(listener, reply=techo.raw, limits=limits) as server:
        start = trio.current_time()
        await trip(await listener.connect())
        parked = [await listener.connect() for _ in range(3)]
        assert await parked[-1].receive_some() == b""
        assert trio.current_time() == start
        assert server.statistics().parked == 2
        await server.drain()
        assert trio.current_time() - start < 2  # the graceful close of the one that was served
    found = server.statistics()
    assert ended(found) == {"refused": 1, "drained": 3}
    assert (found.active, found.parked) == (0, 0)


async def test_who_is_cancelled_while_parked_leaves_no_place_taken(
    autojump_clock: Clock, nursery: trio.Nursery
) -> None:
    """An embedder's scope ends it, also at the moment at which it is given a place."""
    limits = techo.Limits(max_connections=1, when_full="park")
    service = techo.EchoService(techo.raw, limits=limits)
    pairs = [trio.testing.memory_stream_pair() for _ in range(4)]
    scopes = [trio.CancelScope() for _ in pairs]

    async def handle(number: int) -> None:
        with scopes[number]:
            await service.handle(pairs[number][1])

    for number in range(3):
        nursery.start_soon(handle, number)
        await trio.testing.wait_all_tasks_blocked()
    assert service.statistics().parked == 2
    scopes[1].cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert service.statistics().parked == 1
    scopes[0].cancel()
    scopes[2].cancel()
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(handle, 3)
    await trip(pairs[3][0])
    found = service.statistics()
    assert (found.accepted, found.active, found.parked) == (4, 1, 0)
    nursery.cancel_scope.cancel()


def test_another_word_is_refused() -> None:
    """The text has the value and what would be right."""
    with pytest.raises(ValueError, match="when_full 'wait' is not refuse or park"):
        techo.Limits(when_full="wait")
