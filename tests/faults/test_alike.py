"""One fault, wherever it is: an echo, a proxy before one, and a stream all show the same."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import attrs
import pytest
import trio
import trio.testing

import techo
from helpers import ended
from techo import testing
from techo.testing import Fault, FaultEvent, MemoryStream

LIMITS = techo.Limits(idle_timeout=30, lifetime=100)
PATIENT = techo.Limits(idle_timeout=1000, lifetime=1000)
"""Of a target, so that it is the proxy that ends a connection."""

SIZES = (5, 8, 3)
"""Bytes that a client sends."""

GAP = 0.75
"""Seconds between two things that a client does: not those of a limit, so that none ties."""

FAULTS = (
    *(testing.Delay(2), testing.Delay(2, jitter=1, offset=4)),
    *(testing.Throttle(5), testing.Throttle(7, offset=4), testing.Chunk(1, 5)),
    *(testing.SlowAccept(3.1), testing.SlowClose(3.1)),
    *(testing.Stall(), testing.Stall(7), testing.Truncate(0), testing.Truncate(3, offset=5)),
    *(testing.Reset(), testing.Reset(7), testing.Reset(3, offset=9)),
    *(testing.Corrupt(1), testing.Corrupt(0.3, offset=2), testing.Lengthen(3, offset=4)),
    *(testing.CloseUnread(), testing.HalfCloseFirst(), testing.Refuse()),
    *(testing.IgnoreEnd(), testing.NeverRead()),
)

Stream: TypeAlias = trio.abc.HalfCloseableStream


@attrs.frozen
class Seen:
    """What a client got, and when."""

    got: dict[float, bytes]
    end: str
    when: float
    history: tuple[FaultEvent, ...] = ()
    outcomes: dict[str, int] = attrs.field(factory=dict)


async def send(stream: Stream, sizes: Sequence[int], *, reset: bool) -> None:
    """Send so many bytes each, and the end."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await trio.testing.wait_all_tasks_blocked()
        for number, size in enumerate(sizes):
            await stream.send_all(bytes([65 + number]) * size)
            await trio.sleep(GAP)  # of the clock, which jumps
        if reset:
            assert isinstance(stream, MemoryStream)
            stream.reset()
        await stream.send_eof()


async def receive(stream: Stream) -> Seen:
    """Return all that comes."""
    got: dict[float, bytes] = {}
    end = "never"
    with trio.move_on_after(90):
        try:
            while data := await stream.receive_some():
                now = round(trio.current_time(), 6)
                got[now] = got.get(now, b"") + data
            end = "eof"
        except trio.BrokenResourceError:
            end = "broken"
        except trio.ClosedResourceError:
            end = "closed"
    return Seen(got, end, round(trio.current_time(), 6))


async def talk(stream: Stream, sizes: Sequence[int], *, reset: bool = False) -> Seen:
    """Do both at once, close, and return what came."""
    async with trio.open_nursery() as nursery:

        async def do_send() -> None:
            await send(stream, sizes, reset=reset)

        nursery.start_soon(do_send)
        seen = await receive(stream)
        nursery.cancel_scope.cancel()
    await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    return seen


async def of_an_echo(fault: Fault, sizes: Sequence[int], seed: int, *, reset: bool) -> Seen:
    """Return what a client of an echo server sees."""
    async with testing.open_memory_server(
        reply=techo.raw, faults=[fault], seed=seed, limits=LIMITS
    ) as server:
        seen = await talk(await server.connect(), sizes, reset=reset)
    return attrs.evolve(seen, history=server.history, outcomes=ended(server.statistics()))


async def of_a_proxy(fault: Fault, sizes: Sequence[int], seed: int, *, reset: bool) -> Seen:
    """Return what a client of a proxy before an echo sees."""
    async with (
        testing.open_memory_server(reply=techo.raw, limits=PATIENT) as server,
        testing.open_proxy(server.connect, faults=[fault], seed=seed, limits=LIMITS) as proxy,
    ):
        seen = await talk(await proxy.connect(), sizes, reset=reset)
    assert server.statistics().active == 0
    return attrs.evolve(seen, history=proxy.history, outcomes=ended(proxy.statistics()))


async def of_a_target(fault: Fault, sizes: Sequence[int], seed: int, *, reset: bool) -> Seen:
    """Return what the target of a proxy sees of a client that sends the same."""
    ours, theirs = MemoryStream.pair()

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        return ours

    async with testing.open_proxy(
        connect, upstream_faults=[fault], seed=~seed, limits=LIMITS
    ) as proxy:
        client = await proxy.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(send, client, sizes, reset=reset))
            seen = await receive(theirs)
            nursery.cancel_scope.cancel()
        await theirs.aclose()
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert proxy.history == ()
    return attrs.evolve(seen, history=proxy.upstream_history)


async def of_a_stream(fault: Fault, sizes: Sequence[int], seed: int, *, reset: bool) -> Seen:
    """Return what a client sees of an echo over a stream with the fault."""
    client, far = MemoryStream.pair()
    stream = testing.faulty(far, fault, seed=seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, stream)
        seen = await talk(client, sizes, reset=reset)
        nursery.cancel_scope.cancel()
    return attrs.evolve(seen, history=stream.history)


async def of_what_is_received(
    fault: Fault, sizes: Sequence[int], seed: int, *, reset: bool
) -> Seen:
    """Return what a client sees of an echo if its own stream has the fault."""
    client, far = MemoryStream.pair()
    stream = testing.faulty(client, received=[fault], seed=~seed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, far)
        seen = await talk(stream, sizes, reset=reset)
        nursery.cancel_scope.cancel()
    return attrs.evolve(seen, history=stream.received_history)


async def echo(stream: Stream) -> None:
    """Echo."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while data := await stream.receive_some():
            await stream.send_all(data)
        await stream.send_eof()


def run(of: Callable[..., Awaitable[Seen]], fault: Fault, *, reset: bool) -> Seen:
    """Run in virtual time."""

    async def main() -> Seen:
        return await of(fault, SIZES, 5, reset=reset)

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


ENDLESS = (testing.Stall, testing.IgnoreEnd, testing.NeverRead)
"""What only a limit ends, which a stream has not, and in a proxy is that of both directions."""

PLACES: list[tuple[Callable[..., Awaitable[Seen]], tuple[type[Fault], ...]]] = [
    (of_a_target, (testing.NeverRead,)),  # of what the target says
    (of_a_stream, (testing.Delay,)),  # of each `send_all`
    (of_what_is_received, (testing.Reset,)),  # what came before has come
]
"""Where a fault is, and which do something else there, as is documented."""


@pytest.mark.parametrize("end", ["eof", "reset"])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_proxy_before_an_echo_is_an_echo_with_the_fault(fault: Fault, end: str) -> None:
    """Its client gets the same bytes at the same time, and the records say the same."""
    one, other = (run(of, fault, reset=end == "reset") for of in (of_an_echo, of_a_proxy))
    if isinstance(fault, testing.Stall):
        # An echo that sends nothing receives nothing; a proxy still passes on the rest.
        one, other = (Seen(each.got, "", 0, each.history) for each in (one, other))
    assert other == one
    assert one.history or end == "reset"


@pytest.mark.parametrize(
    ("of", "fault"),
    [(of, fault) for of, unlike in PLACES for fault in FAULTS if not isinstance(fault, unlike)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_fault_is_the_same_wherever_it_is(
    of: Callable[..., Awaitable[Seen]], fault: Fault
) -> None:
    """Targets and both ends of a stream see the same at the same time, and the same end."""
    one, other = run(of_an_echo, fault, reset=False), run(of, fault, reset=False)
    if isinstance(fault, ENDLESS):
        one, other = (Seen(each.got, "", 0, each.history) for each in (one, other))
    assert other == attrs.evolve(one, outcomes={})
