"""Faulty streams: what one sends or receives goes wrong, over any trio stream."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from techo.testing import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    DropReply,
    Fault,
    FaultyHalfCloseableStream,
    FaultyStream,
    HalfCloseFirst,
    IgnoreEnd,
    Lengthen,
    MemoryStream,
    NeverRead,
    NoCloseNotify,
    Refuse,
    Reset,
    SlowAccept,
    SlowClose,
    Stall,
    Throttle,
    Truncate,
    faulty,
)

MESSAGES = (b"hello", b"second")
LATE = 50.0
"""Seconds after which nothing comes any more."""


@attrs.frozen
class Seen:
    """What one end received, from the moment when the other began to send."""

    pieces: tuple[tuple[float, bytes], ...]
    end: str
    when: float

    @property
    def data(self) -> bytes:
        """Everything that came."""
        return b"".join(data for _, data in self.pieces)


async def receive(stream: trio.abc.ReceiveStream) -> Seen:
    """Return what comes, and how it ends: `eof`, `broken`, or `never` within a time."""
    begun = trio.current_time()
    pieces: list[tuple[float, bytes]] = []
    end = "never"
    with trio.move_on_after(LATE):
        try:
            while data := await stream.receive_some():
                pieces.append((trio.current_time() - begun, bytes(data)))
            end = "eof"
        except trio.BrokenResourceError:
            end = "broken"
    return Seen(tuple(pieces), end, trio.current_time() - begun)


async def send(stream: trio.abc.HalfCloseableStream) -> str:
    """Send a message a second, then the end; return how that went."""
    with trio.move_on_after(LATE):
        try:
            for message in MESSAGES:
                await stream.send_all(message)
                await trio.sleep(1)  # of the clock, which jumps
            await stream.send_eof()
        except trio.BrokenResourceError:
            return "broken"
        return "sent"
    return "stuck"


async def pass_on(
    sender: trio.abc.HalfCloseableStream, receiver: trio.abc.ReceiveStream
) -> tuple[str, Seen]:
    """Let one end send and the other receive; return how the one fared, and what came."""
    results: dict[str, object] = {}

    async def do_send() -> None:
        results["sent"] = await send(sender)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(do_send)
        seen = await receive(receiver)
    return str(results["sent"]), seen


Judge = Callable[[str, Seen], bool]
ALL = b"".join(MESSAGES)

HAPPEN: list[tuple[Fault, Judge]] = [
    (Throttle(5), lambda _, seen: seen.data == ALL and len(seen.pieces) == len(ALL)),
    (Chunk(2), lambda _, seen: seen.data == ALL and len(seen.pieces) > len(MESSAGES)),
    (Corrupt(1), lambda _, seen: all(a != b for a, b in zip(seen.data, ALL, strict=True))),
    (Lengthen(2), lambda _, seen: len(seen.data) == len(ALL) + 4),
    (Truncate(7), lambda _, seen: (seen.data, seen.end) == (ALL[:7], "eof")),
    (Stall(7), lambda _, seen: (seen.data, seen.end) == (ALL[:7], "never")),
    (Reset(7), lambda sent, seen: (sent, seen.end) == ("broken", "broken")),
    (HalfCloseFirst(), lambda _, seen: (seen.data, seen.end, seen.when) == (b"", "eof", 0)),
    (SlowClose(5), lambda _, seen: (seen.data, seen.end, seen.when) == (ALL, "eof", 7)),
    (CloseUnread(), lambda sent, seen: (sent, seen.data) == ("broken", b"")),
    (Refuse(), lambda sent, seen: (sent, seen.data) == ("broken", b"")),
    (SlowAccept(5), lambda _, seen: seen.pieces[0][0] == 5 and seen.data == ALL),
    (Corrupt(1, offset=5), lambda _, seen: seen.data[:5] == b"hello" != seen.data[5:10]),
]


@pytest.mark.parametrize(("fault", "happens"), HAPPEN, ids=[str(each) for each, _ in HAPPEN])
async def test_what_is_sent_goes_wrong(
    fault: Fault, happens: Judge, autojump_clock: trio.testing.MockClock
) -> None:
    """The other end sees it, and it is recorded with the sender."""
    ours, theirs = MemoryStream.pair()
    stream = faulty(ours, fault)
    assert happens(*await pass_on(stream, theirs))
    assert {event.fault for event in stream.history} == {fault}
    assert stream.received_history == ()
    await stream.aclose()


@pytest.mark.parametrize(("fault", "happens"), HAPPEN, ids=[str(each) for each, _ in HAPPEN])
async def test_what_is_received_goes_wrong(
    fault: Fault, happens: Judge, autojump_clock: trio.testing.MockClock
) -> None:
    """The user of the stream sees the same as the other end would, were it sent so."""
    ours, theirs = MemoryStream.pair()
    stream = faulty(ours, received=[fault])
    sent, seen = await pass_on(theirs, stream)
    if isinstance(fault, CloseUnread | Refuse):  # which its user sees of a good sender
        assert (seen.data, seen.end) == (b"", "eof")
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
    else:
        assert happens(sent, seen)
    assert {event.fault for event in stream.received_history} == {fault}
    assert stream.history == ()
    await stream.aclose()


async def test_each_thing_that_comes_is_late_by_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Delays of what is received do not add up, and its end has none of its own."""
    ours, theirs = MemoryStream.pair()
    _, seen = await pass_on(theirs, faulty(ours, received=[Delay(10)]))
    assert seen.pieces == ((10, b"hello"), (11, b"second"))
    assert (seen.end, seen.when) == ("eof", 11)
    ours, theirs = MemoryStream.pair()
    _, seen = await pass_on(faulty(ours, Delay(10)), theirs)
    assert seen.pieces == ((10, b"hello"), (21, b"second"))


async def test_a_user_that_never_reads_or_heeds_no_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As a fault of what is sent it is the user's own, of what is received the peer's."""
    for fault in (NeverRead(), IgnoreEnd()):
        ours, theirs = MemoryStream.pair()
        stream = faulty(ours, fault)
        _, seen = await pass_on(theirs, stream)
        assert seen.end == "never"
        assert seen.data == (b"" if isinstance(fault, NeverRead) else ALL)
        assert {event.fault for event in stream.history} == {fault}
    ours, theirs = MemoryStream.pair()
    stream = faulty(ours, received=[IgnoreEnd()])
    sent, seen = await pass_on(stream, theirs)
    assert (sent, seen.data, seen.end) == ("sent", ALL, "never")
    ours, theirs = MemoryStream.pair()
    stream = faulty(ours, received=[NeverRead()])
    await stream.send_all(bytes(2**16))
    with trio.move_on_after(LATE) as scope:
        await stream.send_all(b"one too many")
    assert scope.cancelled_caught
    assert (await receive(theirs)).data == b""


@pytest.mark.parametrize("fault", [Throttle(2), Delay(5, jitter=3), Chunk(1), Lengthen(4)])
async def test_a_receiver_that_is_cancelled_loses_nothing(
    fault: Fault, autojump_clock: trio.testing.MockClock
) -> None:
    """However often it is, it gets the same as one that waits, no sooner."""

    async def all_of(patience: float) -> tuple[bytes, float]:
        ours, theirs = MemoryStream.pair()
        stream, back = faulty(ours, received=[fault]), b""
        await theirs.send_all(b"hello")
        await theirs.send_eof()
        begun = trio.current_time()
        while True:
            with trio.move_on_after(patience):
                if not (data := await stream.receive_some(3)):
                    return back, trio.current_time() - begun
                back += data

    assert await all_of(0.25) == await all_of(100)


@pytest.mark.parametrize("fault", [Stall(), NeverRead()])
async def test_closing_ends_what_waits_for_ever(
    fault: Fault, autojump_clock: trio.testing.MockClock
) -> None:
    """The other task is told that the stream was closed."""
    ours, theirs = MemoryStream.pair()
    stream = faulty(ours, fault, received=[fault])
    await theirs.send_all(b"hello")
    async with trio.open_nursery() as nursery:

        async def use(operation: Callable[[], object]) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await operation()  # type: ignore[misc]

        nursery.start_soon(use, stream.receive_some)
        nursery.start_soon(use, lambda: stream.send_all(bytes(2**17)))
        await trio.sleep(5)  # of the clock, which jumps
        with pytest.raises(trio.BusyResourceError):
            await stream.receive_some()
        await stream.aclose()
    assert {event.fault for event in stream.history} <= {fault}


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_seed_is_the_same_story(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """The same bytes go wrong each time, and others in the other direction."""
    seen = []
    for _ in range(2):
        ours, theirs = MemoryStream.pair()
        stream = faulty(ours, Corrupt(0.5), received=[Corrupt(0.5)], seed=seed)
        await stream.send_all(bytes(100))
        await theirs.send_all(bytes(100))
        seen.append((await theirs.receive_some(), await stream.receive_some()))
    assert seen[0] == seen[1]
    assert seen[0][0] != seen[0][1]


HARMLESS: list[tuple[Fault, ...]] = [(), (Chunk(1000), Delay(0)), (Reset(10**9),)]


@pytest.mark.parametrize("faults", HARMLESS, ids=["plain", "harmless", "later"])
async def test_it_is_a_trio_stream(faults: tuple[Fault, ...]) -> None:
    """It does what trio asks of every stream, on both sides, whatever its faults."""

    # trio's check awaits both.
    async def pair() -> tuple[  # noqa: ASYNC124  -- see above
        FaultyHalfCloseableStream, FaultyHalfCloseableStream
    ]:
        left, right = trio.testing.memory_stream_pair()
        return faulty(left, *faults, received=faults), faulty(right, *faults, received=faults)

    async def clogged() -> tuple[  # noqa: ASYNC124  -- likewise
        FaultyHalfCloseableStream, FaultyHalfCloseableStream
    ]:
        left, right = trio.testing.lockstep_stream_pair()
        return faulty(left, *faults, received=faults), faulty(right, *faults, received=faults)

    await trio.testing.check_half_closeable_stream(pair, clogged)


async def test_over_tls_it_is_no_more_than_a_stream(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """It cannot be half-closed, and faults that need that are refused."""
    left, right = trio.testing.memory_stream_pair()
    server = faulty(trio.SSLStream(right, server_tls, server_side=True), Corrupt(1))
    client = trio.SSLStream(left, client_tls, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"hello")
        data = await client.receive_some()
        assert len(data) == 5
        assert data != b"hello"
    assert type(server) is FaultyStream
    assert not isinstance(server, trio.abc.HalfCloseableStream)
    with pytest.raises(
        ValueError, match="cannot happen on a stream that cannot be half-closed"
    ):
        faulty(client, HalfCloseFirst())


def test_what_no_stream_can_do_is_refused() -> None:
    """The text names the fault, or the value of another kind."""
    ours, _ = MemoryStream.pair()
    for fault in (DropReply(), NoCloseNotify()):
        with pytest.raises(ValueError, match=r"cannot happen on a stream, only on"):
            faulty(ours, received=[fault])
    with pytest.raises(ValueError, match="is not only faults of techo"):
        faulty(ours, [Reset()])  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"stream 5 is not a trio\.abc\.Stream"):
        faulty(5)  # type: ignore[call-overload]
