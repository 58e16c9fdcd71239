"""Step 5 shows how stopping a server costs clients their replies, and how it need not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import MockClock, open_stream_to_socket_listener

DRAIN = 5  # seconds
Serve: TypeAlias = Callable[[trio.SocketListener, trio.Event], Awaitable[None]]


async def handle(stream: trio.SocketStream, stop: trio.Event) -> None:
    """Echo, with a second of work for every answer, until the server is to stop."""
    async with stream:
        while not stop.is_set() and (chunk := await stream.receive_some()):
            await trio.sleep(1)
            await stream.send_all(chunk)


async def accept(
    listener: trio.SocketListener, handlers: trio.Nursery, stop: trio.Event
) -> None:
    """Start a task for every connection; a cancellation closes the listener."""
    async with listener:
        while True:
            handlers.start_soon(handle, await listener.accept(), stop)


async def one_nursery(listener: trio.SocketListener, stop: trio.Event) -> None:
    """Run all in one nursery, which can only be stopped as a whole."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, listener, nursery, stop)
        await stop.wait()
        nursery.cancel_scope.cancel()


async def two_nurseries(listener: trio.SocketListener, stop: trio.Event) -> None:
    """Run accepting inside and handlers outside, so that handlers can outlive accepting."""
    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(accept, listener, handlers, stop)
            await stop.wait()
            accepting.cancel_scope.cancel()
        handlers.cancel_scope.deadline = trio.current_time() + DRAIN


async def try_out(serve: Serve) -> None:
    """Stop the server while a client waits for its answer and another one is quiet."""
    stop, begun, ends = trio.Event(), trio.current_time(), list[str]()

    async def be_client(name: str, question: bytes) -> None:
        async with await open_stream_to_socket_listener(listener) as client:
            if question:
                await client.send_all(question)
            answer = await client.receive_some()
            got = repr(answer) if answer else "an end"
            ends.append(f"{trio.current_time() - begun:.1f} s: {name} gets {got}")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, stop)
        nursery.start_soon(be_client, "the busy client", b"hello")
        nursery.start_soon(be_client, "the quiet client", b"")
        await trio.sleep(0.5)  # of a clock that jumps, as everything is timed here
        print("  0.5 s: the server is to stop")
        stop.set()
    for end in sorted(ends):
        print(f"  {end}")


async def main() -> None:
    """Try out both servers, with a clock that jumps when everybody waits."""
    print("wrong: one nursery for everything")
    await try_out(one_nursery)
    print("mended: accept loops inside, handlers outside")
    await try_out(two_nurseries)


trio.run(main, clock=MockClock(autojump_threshold=0.1))
