"""Step 2 shows what a peer that never reads costs: all of the memory, or one task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import MockClock, open_stream_to_socket_listener, wait_all_tasks_blocked

KIB, MIB, DAY = 2**10, 2**20, 24 * 3600
Echo: TypeAlias = Callable[[trio.SocketStream, Counter[str]], Awaitable[None]]


async def echo_with_queue(stream: trio.SocketStream, count: Counter[str]) -> None:
    """Read in one task and send in another, with a queue that takes everything."""
    put, take = trio.open_memory_channel[bytes | bytearray](math.inf)

    async def send() -> None:
        async for chunk in take:
            await stream.send_all(chunk)
            count["sent"] += len(chunk)

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        with put:
            async for chunk in stream:
                count["received"] += len(chunk)
                put.send_nowait(chunk)


async def echo(stream: trio.SocketStream, count: Counter[str]) -> None:
    """Read the next chunk only when the last one is sent."""
    async with stream:
        async for chunk in stream:
            count["received"] += len(chunk)
            await stream.send_all(chunk)
            count["sent"] += len(chunk)


async def send_only(peer: trio.SocketStream) -> None:
    """Send 64 MiB and read nothing."""
    for _ in range(1024):
        await peer.send_all(bytes(64 * KIB))


async def try_out(serve: Echo) -> None:
    """Let a peer send until nobody can go on, then look at what it costs."""
    count: Counter[str] = Counter()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        await open_stream_to_socket_listener(listener) as peer,
        trio.open_nursery() as connections,
        trio.open_nursery() as clients,
    ):
        connections.start_soon(serve, await listener.accept(), count)
        clients.start_soon(send_only, peer)
        await wait_all_tasks_blocked(0.3)
        kept = count["received"] - count["sent"]
        print(f"  the server has read {count['received'] / MIB:.1f} MiB of 64")
        print(f"  and keeps {kept / KIB:.0f} KiB in its memory")
        async with await open_stream_to_socket_listener(listener) as other:
            connections.start_soon(serve, await listener.accept(), Counter())
            await other.send_all(b"hello")
            print("  another client says hello, and gets", await other.receive_some())
        await trio.sleep(DAY)
        print("  tasks that still wait a day later:", len(connections.child_tasks))
        connections.cancel_scope.cancel()


async def main() -> None:
    """Try out both, with a clock that jumps when everybody waits: a day takes no time."""
    print("wrong: a queue without a limit")
    await try_out(echo_with_queue)
    print("mended: who sends waits for who reads")
    await try_out(echo)


trio.run(main, clock=MockClock(autojump_threshold=0.1))
