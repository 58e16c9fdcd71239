"""Exercise 5: a drain that does not wait for quiet clients. Edit, then run this."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import MockClock, open_stream_to_socket_listener

Reply: TypeAlias = Callable[[bytes], Awaitable[bytes]]

DRAIN = 5
"""Seconds after which the drain ends whatever is left."""


async def serve(listener: trio.SocketListener, reply: Reply, stop: trio.Event) -> None:
    """Serve until `stop`; then end quiet clients at once, and others with their reply."""
    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(accept, listener, reply, handlers, stop)
            await stop.wait()
            accepting.cancel_scope.cancel()
        handlers.cancel_scope.deadline = trio.current_time() + DRAIN


async def accept(
    listener: trio.SocketListener, reply: Reply, handlers: trio.Nursery, stop: trio.Event
) -> None:
    """Start a task for every connection; a cancellation closes the listener."""
    async with listener:
        while True:
            handlers.start_soon(handle, await listener.accept(), reply, stop)


async def handle(stream: trio.SocketStream, reply: Reply, stop: trio.Event) -> None:
    """Reply until the server is to stop. This is where a quiet client is waited for."""
    async with stream:
        while not stop.is_set() and (chunk := await stream.receive_some()):
            await stream.send_all(await reply(chunk))


# The check. Nothing below needs to be changed.


async def check(
    answer: Callable[[trio.SocketListener, Reply, trio.Event], Awaitable[None]],
) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    stop, ends = trio.Event(), dict[str, tuple[float, bytes]]()

    async def be_client(question: bytes) -> None:
        async with await open_stream_to_socket_listener(listener) as client:
            if question:
                await client.send_all(question)
            got = await client.receive_some()
            ends[question.decode() or "quiet"] = (trio.current_time() - begun, got)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, listener, _reply, stop)
        for question in (b"", b"busy", b"endless"):
            nursery.start_soon(be_client, question)
        await trio.sleep(0.5)  # of a clock that jumps: see the end of this file
        stop.set()
    for name, (least, most), reply in [
        ("busy", (0.9, 1.1), b"BUSY"),
        ("quiet", (0.4, 0.7), b""),
        ("endless", (5.4, 5.6), b""),
    ]:
        seconds, got = ends[name]
        if got != reply:
            return f"the {name} client got {got!r}, and not {reply!r}"
        if not least <= seconds <= most:
            return (
                f"the server was to stop after 0.5 s; the {name} client's end: {seconds:.1f} s"
            )
    return ""


async def _reply(question: bytes) -> bytes:
    await trio.sleep(3600 if question == b"endless" else 1)
    return question.upper()


if __name__ == "__main__":
    missing = trio.run(check, serve, clock=MockClock(autojump_threshold=0.1))
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)
