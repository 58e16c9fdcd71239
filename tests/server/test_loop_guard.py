"""The loop guard: two servers set against each other stop, and honest probers are answered."""

from __future__ import annotations

import socket
import struct

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, until
from techo import _loop_guard as loop_guard
from techo._loop_guard import LoopGuard
from techo.reply import STAMP_LENGTH

PEER = ("192.0.2.1", 4711)
STAMP = techo.stamped(b"")


def received(guard: LoopGuard, data: bytes, now: float, peer: object = PEER) -> bool:
    """Receive a datagram; return whether it is answered, which is noted."""
    if guard.is_loop(memoryview(data), peer, now):
        return False
    reply = guard.reply(data)
    if guard.reply is not techo.raw:
        guard.note(peer, reply, now)
    return True


@pytest.mark.parametrize("size", [0, 5, 100, 127, 128, 129, 1000, 65_000])
def test_a_stamped_reply_that_comes_back_is_a_loop(size: int) -> None:
    """It is one as it was sent, with another's stamp before it, and with more behind it."""
    guard = LoopGuard(techo.stamped)
    payload = b"\x01" * size
    reply = techo.stamped(payload)
    guard.note(PEER, reply, 0)  # not made again, when the second may be another
    assert not received(guard, reply, 0.001)
    assert not received(guard, STAMP + reply, 0.001)
    assert not received(guard, reply + b"more", 60)


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"[", b"[ping]", STAMP, b"x" * 1000],
    ids=["empty", "short", "bracket", "brackets", "stamp", "long"],
)
def test_a_prober_that_repeats_itself_is_answered_by_a_stamped_server(payload: bytes) -> None:
    """What it sends does not begin with what it got, however often it is the same."""
    guard = LoopGuard(techo.stamped)
    assert all(received(guard, payload, number / 1000) for number in range(3000))


def test_what_another_source_got_is_no_loop() -> None:
    """Each is compared with its own last reply."""
    guard = LoopGuard(techo.stamped)
    assert received(guard, b"x", 0)
    assert received(guard, techo.stamped(b"x"), 0, ("192.0.2.2", 4711))


@pytest.mark.parametrize("reply", [techo.raw, bytes.upper], ids=["raw", "a function"])
def test_a_reply_that_comes_back_a_thousand_times_is_limited(
    reply: techo.Reply, caplog: pytest.LogCaptureFixture
) -> None:
    """Its source gets a hundred a second, with one line in the log, until it pauses."""
    guard = LoopGuard(reply)
    now, admitted = 0.0, []
    for _ in range(5000):
        now += 0.001
        admitted.append(received(guard, b"LOOP", now))
    assert all(admitted[:1000])
    assert 100 + 100 * 3 < sum(admitted[1010:]) < 100 + 100 * 5
    assert len(caplog.records) == 1
    assert "192.0.2.1" in caplog.text
    assert received(guard, b"LOOP", now + 1)
    assert all(received(guard, b"LOOP", now + 1 + number / 1000) for number in range(900))
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("interval", "others"), [(0.051, 0), (0.001, 500)], ids=["slow", "not alone"]
)
def test_honest_repetition_is_not_limited(interval: float, others: int) -> None:
    """That is what comes more slowly, or with something else in between."""
    guard, now = LoopGuard(techo.raw), 0.0
    for number in range(5000):
        now += interval
        data = b"other %d" % number if others and number % others == 0 else b"same"
        assert received(guard, data, now)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is, whatever is sent from wherever, and however often."""
    monkeypatch.setattr(loop_guard, "MOST_SOURCES", most := 1000)
    for reply in (techo.raw, techo.stamped, bytes.upper):
        guard = LoopGuard(reply)
        for number in range(2 * most):
            assert received(guard, b"%d" % number, number / 1000, number)
        kept = guard._stamped if reply is techo.stamped else guard._samples
        assert len(kept) == most
    for number in range(2 * loop_guard._MOST_SUSPECTS):
        for _ in range(loop_guard._SUSPICIOUS):
            assert received(guard, b"same", number / 1000, number)
    assert len(guard._suspects) == loop_guard._MOST_SUSPECTS


@pytest.mark.parametrize("first", [techo.raw, techo.stamped])
@pytest.mark.parametrize("second", [techo.raw, techo.stamped])
async def test_two_servers_are_not_kept_busy_by_one_forged_datagram(
    first: techo.Reply, second: techo.Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The datagram that each answers the other is dropped as a loop, sooner or later."""
    monkeypatch.setattr(loop_guard, "_WITHIN", PATIENCE)  # as quickly as this machine can
    async with (
        techo.open_server("udp://127.0.0.1:0", reply=first) as one,
        techo.open_server("udp://127.0.0.1:0", reply=second) as other,
    ):
        forge(one.endpoints[0], other.endpoints[0])
        await until(
            lambda: sum(
                each.statistics().datagrams.dropped[techo.DropReason.LOOP]
                for each in (one, other)
            )
        )
        await trio.testing.wait_all_tasks_blocked()
        figures = [each.statistics().datagrams for each in (one, other)]
        assert sum(each.received for each in figures) < 2500
        assert sum(each.bytes_out for each in figures) < 100_000


def forge(source: techo.Endpoint, to: techo.Endpoint) -> None:
    """Send a datagram that seems to come from a server."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError:
        pytest.skip("forging takes privileges")
    with raw:
        header = struct.pack("!HHHH", source.port, to.port, 12, 0)
        raw.sendto(header + b"ping", (to.host, to.port))


async def test_the_guard_can_be_switched_off() -> None:
    """Without it, what comes back is answered as anything else is."""
    limits = techo.Limits(loop_guard=False)
    async with techo.open_server("udp://127.0.0.1:0", limits=limits) as server:
        endpoint = server.endpoints[0]
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            await sock.connect((endpoint.host, endpoint.port))
            data = b"ping"
            with trio.fail_after(PATIENCE):
                for depth in range(1, 5):
                    await sock.send(data)
                    data = await sock.recv(1000)
                    assert len(data) == 4 + depth * STAMP_LENGTH
