"""Faults of messages, over UDP and Unix sockets: lost, doubled, late, changed, out of order."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, until
from techo import testing
from techo._transport.connect import connect
from techo.testing import Fault

KINDS = [techo.Kind.UDP, techo.Kind.UNIXGRAM, techo.Kind.UNIXPACKET]
MESSAGES = [b"one", b"two.", b"three", b"four44"]

pytestmark = pytest.mark.parametrize("kind", KINDS, indirect=True)


async def exchange(
    address: str, faults: Sequence[Fault], count: int, seed: int = 0
) -> tuple[list[bytes], tuple[testing.FaultEvent, ...], techo.Statistics]:
    """Send the messages at once; return `count` replies in order, and what was recorded."""
    async with techo.open_server(address, reply=techo.raw, faults=faults, seed=seed) as server:
        line = (await connect(server.endpoints[0])).transport
        async with line:
            with socket.socket(fileno=os.dup(fileno(line))) as raw:
                for message in MESSAGES:
                    raw.send(message)
                ours = trio.socket.from_stdlib_socket(raw)
                replies: list[bytes] = []
                with trio.fail_after(PATIENCE):
                    while len(replies) < count:
                        replies.append(await ours.recv(100))
                with trio.move_on_after(0.05) as silence:  # nothing more is to come
                    replies.append(await ours.recv(100))
        assert silence.cancelled_caught
        return replies, server.history, server.statistics()


def fileno(line: object) -> int:
    """Return the descriptor of a connection, or of a datagram socket."""
    sock = getattr(line, "socket", None)
    assert sock is not None
    return int(sock.fileno())


FAULTS: list[tuple[Fault, list[bytes]]] = [
    (testing.DropReply(), []),
    (testing.DuplicateReply(), [each for each in MESSAGES for _ in range(2)]),
    (testing.Truncate(3), [each[:3] for each in MESSAGES]),
    (testing.Delay(0.1), MESSAGES),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS, ids=[str(each) for each, _ in FAULTS])
async def test_a_fault_happens_and_only_when_asked_for(
    address: str, fault: Fault, expected: list[bytes], patient_clock: trio.testing.MockClock
) -> None:
    """The client sees the fault and the server records it; without it, neither does."""
    begun = trio.current_time()
    replies, history, _ = await exchange(address, [fault], len(expected))
    assert replies == expected
    assert {event.fault for event in history} == {fault}
    if isinstance(fault, testing.Delay):
        assert trio.current_time() - begun >= 0.1
    replies, history, _ = await exchange(address, [], len(MESSAGES))
    assert (replies, history) == (MESSAGES, ())


async def test_every_byte_can_be_wrong_and_replies_too_long(
    address: str, patient_clock: trio.testing.MockClock
) -> None:
    """Each message gets one reply, corrupted and lengthened."""
    faults = [testing.Corrupt(1.0), testing.Lengthen(2)]
    replies, _, _ = await exchange(address, faults, len(MESSAGES))
    assert [len(each) for each in replies] == [len(each) + 2 for each in MESSAGES]
    for reply, message in zip(replies, MESSAGES, strict=True):
        assert all(a != b for a, b in zip(reply, message, strict=False))


async def test_a_share_of_the_replies_is_lost_and_counted(
    address: str, kind: techo.Kind
) -> None:
    """The same seed loses the same messages."""
    stories = []
    for _ in range(2):
        async with techo.open_server(
            address, reply=techo.raw, faults=[testing.DropReply(0.5)], seed=3
        ) as server:
            line = (await connect(server.endpoints[0])).transport
            async with line:
                with socket.socket(fileno=os.dup(fileno(line))) as raw:
                    ours = trio.socket.from_stdlib_socket(raw)
                    back = 0
                    for number in range(40):
                        await ours.send(b"%d" % number)
                    while back + len(server.history) < 40:
                        with trio.move_on_after(0.01):
                            await ours.recv(10)
                            back += 1
            stories.append((back, [event.connection for event in server.history]))
            if kind is not techo.Kind.UNIXPACKET:
                found = server.statistics().datagrams
                assert found.dropped[techo.DropReason.FAULT] == 40 - back
                assert found.received == 40
    assert stories[0] == stories[1]
    assert 10 <= stories[0][0] <= 30


async def test_a_drain_sends_what_was_delayed(
    address: str, kind: techo.Kind, patient_clock: trio.testing.MockClock
) -> None:
    """A delayed reply was counted as sent, so a drain sends it."""
    async with techo.open_server(
        address, reply=techo.raw, faults=[testing.Delay(PATIENCE)]
    ) as server:
        line = (await connect(server.endpoints[0])).transport
        async with line:
            with socket.socket(fileno=os.dup(fileno(line))) as raw:
                raw.send(b"hello")
                ours = trio.socket.from_stdlib_socket(raw)
                await until(lambda: server.history)
                with trio.fail_after(PATIENCE):
                    if kind is techo.Kind.UNIXPACKET:
                        return  # a connection's delay is cut by the drain time
                    await server.drain()
                    assert await ours.recv(10) == b"hello"


async def test_replies_come_out_of_order(
    address: str, kind: techo.Kind, patient_clock: trio.testing.MockClock
) -> None:
    """A reply held back comes behind a later one, and the last does not wait for ever."""
    if kind is techo.Kind.UNIXPACKET:  # one connection, so the share decides
        reorder = testing.ReorderReplies(0.5)
    else:
        reorder = testing.ReorderReplies(1.0, every=2)
    replies, history, _ = await exchange(address, [reorder], 4, seed=1)
    assert sorted(replies) == sorted(MESSAGES)
    assert replies != MESSAGES
    assert {event.fault for event in history} == {reorder}


async def test_a_held_back_reply_goes_after_a_second_whatever_comes(
    address: str, kind: techo.Kind, patient_clock: trio.testing.MockClock
) -> None:
    """Each reply waits a second of its own; at the end of a connection all go at once."""
    reorder = testing.ReorderReplies(1.0, depth=1000)
    async with techo.open_server(address, reply=techo.raw, faults=[reorder]) as server:
        line = (await connect(server.endpoints[0])).transport
        async with line:
            with socket.socket(fileno=os.dup(fileno(line))) as raw:
                ours = trio.socket.from_stdlib_socket(raw)
                sent, came = [], []
                with trio.fail_after(PATIENCE):
                    for message in MESSAGES[:3]:
                        await ours.send(message)
                        sent.append(trio.current_time())
                        await trio.sleep(0.3)  # of the clock, which jumps
                    for message in MESSAGES[:3]:
                        assert await ours.recv(10) == message
                        came.append(trio.current_time())
        for before, after in zip(sent, came, strict=True):
            assert after - before >= 0.99
        assert came[2] - came[0] > 0.1  # and not all with the first


async def test_late_replies_are_held_back_when_they_are_sent(
    address: str, kind: techo.Kind, patient_clock: trio.testing.MockClock
) -> None:
    """Delay and reordering both happen to each reply."""
    faults = [testing.Delay(0.1), testing.ReorderReplies(1.0)]
    replies, history, _ = await exchange(address, faults, 4)
    assert sorted(replies) == sorted(MESSAGES)
    assert {event.fault for event in history} == set(faults)
