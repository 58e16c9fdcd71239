"""Faults of streams, in memory and in virtual time: each happens, and only when asked for.

A client sees the same of a server with faults and of a proxy with them before a good server.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

import attrs
import pytest
import trio
import trio.testing
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import techo
from helpers import ended
from techo import testing
from techo.testing import Fault

MESSAGES = (b"hello", b"this is the second", b"3rd")
ALL = b"".join(MESSAGES)
IDLE = 60.0
"""Seconds after which the server gives up a silent peer."""


@attrs.frozen
class Seen:
    """What a client saw of one connection."""

    pieces: tuple[tuple[float, bytes], ...]
    """When each came, in s since it was connected, and what."""
    end: str
    """`eof` or `reset`."""
    when: float
    """When that was."""
    outcome: dict[str, int]
    history: tuple[testing.FaultEvent, ...]

    @property
    def data(self) -> bytes:
        """Everything that came."""
        return b"".join(data for _, data in self.pieces)


async def converse(stream: trio.abc.HalfCloseableStream, messages: Sequence[bytes]) -> Seen:
    """Send a message a second, half-close, and note what comes back and when."""
    begun = trio.current_time()
    pieces: list[tuple[float, bytes]] = []
    end = "eof"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, stream, messages)
        try:
            while data := await stream.receive_some():
                pieces.append((trio.current_time() - begun, bytes(data)))
        except trio.BrokenResourceError:
            end = "reset"
        when = trio.current_time() - begun
        nursery.cancel_scope.cancel()
    await stream.aclose()
    return Seen(tuple(pieces), end, when, {}, ())


async def send(stream: trio.abc.HalfCloseableStream, messages: Sequence[bytes]) -> None:
    """Send a message a second until that fails."""
    try:
        for message in messages:
            await stream.send_all(message)
            await trio.sleep(1)
        await stream.send_eof()
    except trio.BrokenResourceError:
        pass


Opened: TypeAlias = Callable[
    [Sequence[Fault], int],
    contextlib.AbstractAsyncContextManager[testing.MemoryServer | testing.Proxy],
]
"""Opens what misbehaves, with a seed."""


def open_server(
    faults: Sequence[Fault], seed: int
) -> contextlib.AbstractAsyncContextManager[testing.MemoryServer]:
    """Open a server with faults."""
    limits = techo.Limits(idle_timeout=IDLE)
    return testing.open_memory_server(reply=techo.raw, limits=limits, faults=faults, seed=seed)


@contextlib.asynccontextmanager
async def open_proxied(faults: Sequence[Fault], seed: int) -> AsyncIterator[testing.Proxy]:
    """Open a proxy with faults, whose target is a good server."""
    limits = techo.Limits(idle_timeout=IDLE)
    async with (
        open_server((), 0) as server,
        testing.open_proxy(server.connect, faults=faults, limits=limits, seed=seed) as proxy,
    ):
        yield proxy


either = pytest.mark.parametrize("opened", [open_server, open_proxied], ids=["echo", "proxy"])


async def see(
    *faults: Fault,
    seed: int = 0,
    messages: Sequence[bytes] = MESSAGES,
    opened: Opened = open_server,
) -> Seen:
    """Return what one connection to a memory server with these faults saw."""
    async with opened(faults, seed) as server:
        seen = await converse(await server.connect(), messages)
    return attrs.evolve(seen, outcome=ended(server.statistics()), history=server.history)


def first_at(time: float) -> Callable[[Seen], bool]:
    """Return whether the first byte came then, and everything in the end."""
    return lambda seen: seen.pieces[0][0] == time and seen.data == ALL


FAULTS: list[tuple[Fault, Callable[[Seen], bool]]] = [
    (testing.Delay(2.0), first_at(2.0)),
    (testing.SlowAccept(5.0), first_at(5.0)),
    (testing.Throttle(20), lambda seen: seen.data == ALL and len(seen.pieces) > len(ALL) / 2),
    (testing.Chunk(1), lambda seen: seen.data == ALL and len(seen.pieces) > 3),
    (
        testing.Stall(after=7),
        lambda seen: (
            # A proxy goes on passing on what comes the other way, which is progress.
            (seen.data, "stalled") == (ALL[:7], *seen.outcome)
            and seen.when in {1 + IDLE, 2 + IDLE}
        ),
    ),
    (testing.SlowClose(7.0), lambda seen: seen.data == ALL and seen.when == 3 + 7),
    (
        testing.Truncate(after=7),
        lambda seen: (seen.data, seen.end, seen.when) == (ALL[:7], "eof", 1),
    ),
    (
        testing.Corrupt(1.0),
        lambda seen: (
            len(seen.data) == len(ALL)
            and all(a != b for a, b in zip(seen.data, ALL, strict=True))
        ),
    ),
    (testing.Lengthen(2), lambda seen: len(seen.data) == len(ALL) + 2 * len(MESSAGES)),
    # What was under way is lost, so the last bytes before it are.
    (testing.Reset(after=7), lambda seen: (seen.data, seen.end) == (b"hello", "reset")),
    (testing.Reset(), lambda seen: (seen.data, seen.end, seen.when) == (b"", "reset", 0)),
    (testing.CloseUnread(), lambda seen: (seen.data, seen.when) == (b"", 0)),
    (
        testing.HalfCloseFirst(),
        lambda seen: (
            (seen.data, seen.end, seen.when) == (b"", "eof", 0) and seen.outcome == {"eof": 1}
        ),
    ),
    (testing.IgnoreEnd(), lambda seen: seen.data == ALL and seen.when > IDLE),
    (testing.NeverRead(), lambda seen: (seen.data, seen.when) == (b"", IDLE)),
    (
        testing.Refuse(),
        lambda seen: (seen.data, seen.when, seen.outcome) == (b"", 0, {"refused": 1}),
    ),
]


@either
@pytest.mark.parametrize(("fault", "happens"), FAULTS, ids=[str(fault) for fault, _ in FAULTS])
async def test_a_fault_happens_and_only_when_asked_for(
    fault: Fault,
    happens: Callable[[Seen], bool],
    opened: Opened,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The client sees the fault and the server records it; without it, neither does."""
    seen = await see(fault, opened=opened)
    assert happens(seen)
    assert {event.fault for event in seen.history} == {fault}
    plain = await see(opened=opened)
    assert not happens(plain)
    assert plain.history == ()
    assert (plain.data, plain.end, plain.when) == (ALL, "eof", 3)


async def test_history_tells_connection_offset_and_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Events are recorded in the order in which things went wrong."""
    delay, stall = testing.Delay(0.5), testing.Stall(after=7)
    seen = await see(delay, stall)
    assert seen.history == (
        testing.FaultEvent(1, 0, 0.0, delay),
        testing.FaultEvent(1, 5, 1.0, delay),
        testing.FaultEvent(1, 7, 1.5, stall),
    )


@pytest.mark.parametrize(
    "fault",
    [
        testing.Delay(2.0, jitter=1.0),
        testing.Corrupt(0.3),
        testing.Chunk(1, 4),
        testing.Lengthen(3),
        testing.Delay(1.0, probability=0.5),
    ],
)
async def test_the_same_seed_is_the_same_story(
    fault: Fault, autojump_clock: trio.testing.MockClock
) -> None:
    """Bytes, times and history repeat with the seed, in a proxy too; another gives others."""
    first, again = await see(fault, seed=5), await see(fault, seed=5)
    proxied = await see(fault, seed=5, opened=open_proxied)
    assert (first.data, first.history) == (proxied.data, proxied.history)
    assert proxied.when == pytest.approx(first.when)
    assert (first.data, first.when, first.history) == (again.data, again.when, again.history)
    others = [await see(fault, seed=seed) for seed in range(6, 12)]
    assert any((other.data, other.history) != (first.data, first.history) for other in others)


async def test_faults_compose(autojump_clock: trio.testing.MockClock) -> None:
    """Each fault happens, whatever the others do."""
    seen = await see(testing.Delay(1.0), testing.Lengthen(1), testing.Truncate(8))
    assert len(seen.data) == 8
    assert seen.data[:5] == b"hello"
    assert seen.data[6:] == b"th"
    assert seen.pieces[0][0] == 1.0


@pytest.mark.parametrize("every", [1, 2, 3])
async def test_every_nth_connection(every: int, autojump_clock: trio.testing.MockClock) -> None:
    """The other connections are served as usual."""
    refuse = testing.Refuse(every=every)
    async with testing.open_memory_server(reply=techo.raw, faults=[refuse]) as server:
        seen = [await converse(await server.connect(), MESSAGES) for _ in range(6)]
    refused = [not each.data for each in seen]
    assert refused == [number % every == 0 for number in range(1, 7)]
    assert [event.connection for event in server.history] == [
        number for number in range(1, 7) if number % every == 0
    ]


async def test_a_probability_is_that_of_a_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The share of connections is about right, and the same for the same seed."""
    fault = testing.CloseUnread(probability=0.3)
    stories = []
    for _ in range(2):
        async with testing.open_memory_server(
            reply=techo.raw, faults=[fault], seed=1
        ) as server:
            for _ in range(200):
                stream = await server.connect()
                await stream.send_eof()
                assert await stream.receive_some() == b""
                await stream.aclose()
        stories.append([event.connection for event in server.history])
    assert stories[0] == stories[1]
    assert 30 <= len(stories[0]) <= 90


@pytest.mark.parametrize("offset", [0, 5, 6, 23, 24])
async def test_an_offset_is_where_it_begins(
    offset: int, autojump_clock: trio.testing.MockClock
) -> None:
    """What was sent before the offset is right."""
    seen = await see(testing.Corrupt(1.0, offset=offset))
    assert seen.data[:offset] == ALL[:offset]
    assert all(a != b for a, b in zip(seen.data[offset:], ALL[offset:], strict=True))


@given(
    data=st.binary(min_size=1, max_size=3000),
    cuts=st.lists(st.integers(0, 3000), max_size=10),
    seed=st.integers(0, 99),
)
def test_what_goes_wrong_does_not_depend_on_how_bytes_come_in(
    data: bytes, cuts: list[int], seed: int
) -> None:
    """The same places are corrupted, however the stream was cut."""
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    messages = [data[first:last] for first, last in itertools.pairwise(bounds)]

    async def main(messages: list[bytes]) -> bytes:
        return (await see(testing.Corrupt(0.05), seed=seed, messages=messages)).data

    clock = trio.testing.MockClock(autojump_threshold=0)
    whole = trio.run(main, [data], clock=clock)
    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(main, messages, clock=clock) == whole


@given(plan=testing.fault_plans("memory"))
@settings(max_examples=40, derandomize=True)
def test_a_client_sees_the_same_of_a_proxy(plan: testing.FaultPlan) -> None:
    """Bytes, end, outcome and history are those of an echo server with the same faults."""
    # In a stall a proxy still passes on what comes the other way. What is refused is closed
    # before or after the first message has come, and what is late for the limit is cut.
    assume(not any(isinstance(each, testing.Stall | testing.Refuse) for each in plan.faults))
    delays = [each for each in plan.faults if isinstance(each, testing.Delay)]
    assume(sum(each.seconds + each.jitter for each in delays) < IDLE - 3)

    def told(opened: Opened) -> tuple[object, ...]:
        clock = trio.testing.MockClock(autojump_threshold=0)
        seen = trio.run(
            functools.partial(see, *plan.faults, seed=plan.seed, opened=opened), clock=clock
        )
        events = [(event.offset, event.fault) for event in seen.history]
        return seen.data, seen.end, seen.outcome, events

    assert told(open_proxied) == told(open_server)


async def test_a_minute_s_stall_costs_no_time(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that stalls is found in milliseconds, as the README promises."""
    async with testing.open_memory_server(faults=[testing.Stall()]) as server:
        stream = await server.connect()
        await stream.send_all(b"hello")
        with pytest.raises(trio.TooSlowError), trio.fail_after(50):
            await stream.receive_some()
        await stream.aclose()


def test_without_faults_nothing_is_in_the_way() -> None:
    """A service without faults has nothing that would intercept."""
    service = techo.EchoService()
    assert service._service.interceptor is None
    assert service.history == ()


@pytest.mark.parametrize(
    ("fault", "end"),
    [(testing.Reset(5), "reset"), (testing.Truncate(5), "eof"), (testing.Stall(5), "eof")],
    ids=str,
)
async def test_an_ending_comes_when_the_last_byte_before_it_was_sent(
    fault: Fault, end: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The end comes at its byte, whether or not another byte follows."""
    seen = await see(fault, messages=[b"hello"])
    assert (seen.end, [event.fault for event in seen.history]) == (end, [fault])
    assert seen.history[0].offset == 5


async def test_an_offset_can_lie_within_a_reply(autojump_clock: trio.testing.MockClock) -> None:
    """A fault begins at its offset, however long the reply is."""
    seen = await see(testing.Throttle(10, offset=10), messages=[b"x" * 30])
    assert seen.pieces[0] == (0.0, b"x" * 10) or seen.pieces[0][1].startswith(b"x" * 10)
    assert seen.pieces[-1][0] == pytest.approx(1.9, abs=0.11)
    chunked = await see(testing.Chunk(1, offset=10), messages=[b"x" * 30])
    assert [event.offset for event in chunked.history] == list(range(10, 30))


async def test_a_corruption_is_told_when_and_where_it_leaves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing is recorded for bytes that were never sent."""
    delay, corrupt, truncate = testing.Delay(5), testing.Corrupt(1.0), testing.Truncate(2)
    seen = await see(delay, corrupt, truncate, messages=[b"hello"])
    assert [(event.offset, event.fault) for event in seen.history] == [
        (0, delay),
        (0, corrupt),
        (1, corrupt),
        (2, truncate),
    ]


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-18])
async def test_a_rate_can_be_as_small_as_can_be(
    rate: float, autojump_clock: trio.testing.MockClock
) -> None:
    """A rate that is too small never happens."""
    assert (await see(testing.Corrupt(rate))).data == ALL


async def test_a_slow_reader_is_as_alive_as_without_faults(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each piece that the peer takes counts as progress, with and without a fault."""
    data = bytes(300_000)
    for fault in (testing.Delay(0), testing.Refuse(every=1000)):
        async with testing.open_memory_server(
            reply=techo.raw, faults=[fault], limits=techo.Limits(idle_timeout=5)
        ) as server:
            stream = await server.connect()
            back = 0
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, data)
                while back < len(data):
                    await trio.sleep(1)
                    back += len(await stream.receive_some(20_000))
            await stream.aclose()


async def test_a_drain_does_not_wait_for_a_stall() -> None:
    """A stalled connection ends at once in a drain, in real time too."""
    limits = techo.Limits(drain_timeout=30)
    async with testing.open_memory_server(faults=[testing.Stall()], limits=limits) as server:
        stream = await server.connect()
        await stream.send_all(b"hello")
        await trio.testing.wait_all_tasks_blocked()
        assert server.history
        with trio.fail_after(5):
            await server.drain()
        await stream.aclose()
