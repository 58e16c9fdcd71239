"""Step 3 shows that a time limit for a conversation is none for being idle."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import MockClock, open_stream_to_socket_listener

IDLE = 60  # seconds
Part: TypeAlias = Callable[[trio.SocketStream], Awaitable[object]]


async def one_scope(stream: trio.SocketStream) -> str:
    """Echo in one scope; return how it ended."""
    with trio.move_on_after(IDLE):
        async for chunk in stream:
            await stream.send_all(chunk)
        return "finished"
    return "time was up"


async def scope_per_wait(stream: trio.SocketStream) -> str:
    """Echo with a scope for every wait; return how it ended."""
    while True:
        with trio.move_on_after(IDLE) as scope:
            chunk = await stream.receive_some()
        if scope.cancelled_caught:
            return "idle"
        if not chunk:
            return "finished"
        with trio.move_on_after(IDLE) as scope:
            await stream.send_all(chunk)
        if scope.cancelled_caught:
            return "stalled"


async def never_read(peer: trio.SocketStream) -> None:
    """Send for ever."""
    while True:
        await peer.send_all(bytes(2**16))


async def say_nothing(peer: trio.SocketStream) -> None:
    """Wait for the end."""
    await peer.receive_some()


async def ask_slowly(peer: trio.SocketStream) -> None:
    """Ask four questions, 40 seconds apart."""
    for _ in range(4):
        await peer.send_all(b"how are you?")
        await peer.receive_some()
        await trio.sleep(40)


async def try_out(converse: Part, peer: Part, name: str) -> None:
    """Let a peer meet the server, and print how the conversation ended."""

    async def be_peer() -> None:
        async with await open_stream_to_socket_listener(listener) as client:
            with contextlib.suppress(trio.BrokenResourceError):
                await peer(client)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(be_peer)
        async with await listener.accept() as stream:
            begun = trio.current_time()
            end = await converse(stream)
            print(f"  {name}: {end} after {trio.current_time() - begun:.0f} s")


async def main() -> None:
    """Let both servers meet three peers, with a clock that jumps when everybody waits."""
    for title, converse in [
        ("wrong: one scope round the conversation", one_scope),
        ("mended: a scope for every wait", scope_per_wait),
    ]:
        print(title)
        await try_out(converse, never_read, "a peer that never reads")
        await try_out(converse, say_nothing, "a quiet client")
        await try_out(converse, ask_slowly, "a client with a question every 40 s")


trio.run(main, clock=MockClock(autojump_threshold=0.1))
