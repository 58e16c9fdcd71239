"""Delays: each reply leaves when it arrived plus the delay, in order, over every transport."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, receive_until_end
from techo import testing
from techo._embedded import transport_of
from techo._faults import datagrams, messages, transport
from techo._faults.datagrams import FaultySender
from techo._faults.plan import Planner
from techo._transport.connect import connect

Clock = trio.testing.MockClock


async def test_a_long_message_is_delayed_once(autojump_clock: Clock) -> None:
    """Four megabytes take as long as one byte: no chunk waits for the one before it."""
    size = 4 * 10**6
    async with testing.open_memory_server(
        reply=techo.raw, faults=[testing.Delay(0.1)]
    ) as server:
        stream = await server.connect()
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_and_end, stream, bytes(size))
            assert len(await receive_until_end(stream)) == size
        assert trio.current_time() - start == pytest.approx(0.1)


async def send_and_end(stream: trio.abc.HalfCloseableStream, data: bytes) -> None:
    """Send all there is to send."""
    await stream.send_all(data)
    await stream.send_eof()


@pytest.mark.parametrize("kind", ["memory", "tcp", "unix", "unixpacket", "udp", "unixgram"])
async def test_a_delay_does_not_grow(kind: str, autojump_clock: Clock, tmp_path: Path) -> None:
    """Of messages that come faster than the delay is long, each is delayed by as much."""
    autojump_clock.autojump_threshold = 0 if kind == "memory" else 0.02
    fault = testing.Delay(0.5)
    delays: list[float] = []
    sent: list[float] = []
    if kind == "memory":
        place: object = testing.MemoryListener()
    else:
        place = f"{kind}:{tmp_path}/s" if kind.startswith("unix") else f"{kind}://127.0.0.1:0"
    async with techo.open_server(place, reply=techo.raw, faults=[fault]) as server:  # type: ignore[arg-type]  # either
        if isinstance(place, testing.MemoryListener):
            ours = transport_of(await place.connect())
        else:
            ours = (await connect(server.endpoints[0])).transport

        async def send() -> None:
            for number in range(20):
                sent.append(trio.current_time())
                await ours.send(b"%02d" % number)
                await trio.sleep(0.1)  # of the clock, which jumps

        async with ours, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            for number in range(20):
                back = await ours.receive(2)
                assert back == b"%02d" % number
                delays.append(trio.current_time() - sent[number])
    assert delays == pytest.approx([0.5] * 20, abs=0.002)


async def test_what_waits_is_bounded(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that nothing is received, so that the peer has to wait."""
    monkeypatch.setattr(transport, "MOST_WAITING", 100_000)
    sent = 0
    async with testing.open_memory_server(
        reply=techo.raw, faults=[testing.Delay(10)], buffer_size=1000
    ) as server:
        stream = await server.connect()

        async def send() -> None:
            nonlocal sent
            for _ in range(1000):
                await stream.send_all(bytes(1000))
                sent += 1000

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(5)
            assert 50_000 < sent <= 102_000
            received = 0
            while received < 10**6:
                received += len(await stream.receive_some())
        assert trio.current_time() == pytest.approx(10 * 10**6 / sent_at_once(), rel=0.3)
        await stream.aclose()


def sent_at_once() -> float:
    """Return how many bytes fit, each message with its record."""
    return 100_000 * 1000 / (1000 + messages.RECORD)


async def test_a_drain_answers_what_waits(autojump_clock: Clock) -> None:
    """A delayed reply is pending: it leaves in its time, and then the connection ends."""
    async with testing.open_memory_server(reply=techo.raw, faults=[testing.Delay(2)]) as server:
        stream = await server.connect()
        for data in (b"one", b"two"):
            await stream.send_all(data)
            await trio.sleep(0.1)  # of the clock, which jumps
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.drain)
            assert await receive_until_end(stream) == b"onetwo"
            await stream.aclose()
        assert ended(server.statistics()) == {"drained": 1}


async def test_a_reset_ends_what_waits(autojump_clock: Clock, nursery: trio.Nursery) -> None:
    """There is nobody to answer any more, so nothing waits for its time."""
    async with testing.open_memory_server(
        reply=techo.raw, faults=[testing.Delay(50)]
    ) as server:
        stream = await server.connect()
        await stream.send_all(b"x")
        await trio.testing.wait_all_tasks_blocked()
        stream.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert ended(server.statistics()) == {"reset": 1}
        assert trio.current_time() == 0


async def test_jitter_does_not_reorder_the_datagrams_of_a_peer(autojump_clock: Clock) -> None:
    """Each peer's are in order, and no peer waits for another's."""
    sent: list[tuple[str, bytes]] = []

    def later(peer: str) -> datagrams.Send:
        def send(data: bytes) -> int:
            sent.append((peer, data))
            return len(data)

        return send

    faulty = FaultySender(Planner([testing.Delay(1.0, jitter=1.0)], seed=1), later)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(faulty.deliver)
        for number in range(100):
            faulty.send(b"%d" % number, "ab"[number % 2])
            await trio.sleep(0.01)  # of the clock, which jumps
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    for peer in "ab":
        mine = [int(data) for who, data in sent if who == peer]
        assert mine == sorted(mine)
        assert len(mine) == 50
    assert [int(data) for _, data in sent] != sorted(int(data) for _, data in sent)
    assert not faulty._latest
    assert faulty._delayed == 0


async def test_empty_datagrams_that_wait_are_bounded_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each costs a record, however few bytes it has."""
    await trio.lowlevel.checkpoint()
    monkeypatch.setattr(datagrams, "MOST_WAITING", 10_000)
    faulty = FaultySender(Planner([testing.Delay(60)], seed=1), lambda _: len)
    for _ in range(10_000 // messages.RECORD + 1):
        faulty.send(b"", "peer")
    with pytest.raises(datagrams.LostOnPurposeError):
        faulty.send(b"", "peer")


async def test_sockets_too(patient_clock: Clock) -> None:
    """Over TCP all of a megabyte comes back a delay after it was sent, not one per chunk."""
    async with (
        techo.open_server(
            "tcp://127.0.0.1:0", reply=techo.raw, faults=[testing.Delay(2)]
        ) as server,
        await trio.open_tcp_stream("127.0.0.1", server.endpoints[0].port) as stream,
        trio.open_nursery() as nursery,
    ):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = trio.current_time()
        nursery.start_soon(send_and_end, stream, bytes(10**6))
        with trio.fail_after(PATIENCE):
            assert len(await receive_until_end(stream)) == 10**6
        assert trio.current_time() - start < 4
