"""Step 1 shows that a server for one client at a time keeps all others waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.testing import open_stream_to_socket_listener, wait_all_tasks_blocked


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes, until the peer has finished."""
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)


async def one_at_a_time(listener: trio.SocketListener) -> None:
    """Serve a client until it has finished, then the next."""
    while True:
        await echo(await listener.accept())


async def one_task_each(listener: trio.SocketListener) -> None:
    """Serve every client in a task of its own."""
    async with trio.open_nursery() as connections:
        while True:
            connections.start_soon(echo, await listener.accept())


async def greet(client: trio.SocketStream, replies: list[bytes]) -> None:
    """Say hello, and note the reply."""
    await client.send_all(b"hello")
    replies.append(await client.receive_some())


async def try_out(serve: Callable[[trio.SocketListener], Awaitable[None]]) -> None:
    """Let a first client be quiet while a second one says hello."""
    replies: list[bytes] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with (
        listener,
        await open_stream_to_socket_listener(listener),
        await open_stream_to_socket_listener(listener) as second,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(serve, listener)
        print("  the first client is connected and says nothing")
        nursery.start_soon(greet, second, replies)
        await wait_all_tasks_blocked(0.2)  # until no task can go on by itself
        reply = replies[0] if replies else "no answer"
        print("  the second client says hello, and gets", reply)
        nursery.cancel_scope.cancel()


async def main() -> None:
    """Try out both servers."""
    print("wrong: one client at a time")
    await try_out(one_at_a_time)
    print("mended: one task per connection")
    await try_out(one_task_each)


trio.run(main)
