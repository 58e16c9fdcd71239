"""Exercise 1: serve many clients at once, but no more than two. Edit `serve`, then run this."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import trio
from trio.testing import open_stream_to_socket_listener, wait_all_tasks_blocked


async def echo(stream: trio.SocketStream) -> None:
    """Send back what comes, until the peer has finished."""
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)


async def serve(listener: trio.SocketListener) -> None:
    """Serve two clients at a time; a third one waits until one of them has finished."""
    async with trio.open_nursery() as connections:
        while True:
            connections.start_soon(echo, await listener.accept())


# The check. Nothing below needs to be changed.


async def check(answer: Callable[[trio.SocketListener], Awaitable[None]]) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, AsyncExitStack() as stack, trio.open_nursery() as nursery:
        nursery.start_soon(answer, listener)
        clients = [await open_stream_to_socket_listener(listener) for _ in range(3)]
        for client in clients:
            stack.push_async_exit(client)
        replied: list[int] = []
        for number, client in enumerate(clients):
            nursery.start_soon(_greet, client, number, replied)
            await wait_all_tasks_blocked(0.2)
        before = sorted(replied)
        await clients[0].aclose()
        await wait_all_tasks_blocked(0.2)
        nursery.cancel_scope.cancel()
    if before != [0, 1]:
        return f"of three clients {len(before)} were served at once, and not two"
    if sorted(replied) != [0, 1, 2]:
        return "the third client was not served when the first had finished"
    return ""


async def _greet(client: trio.SocketStream, number: int, replied: list[int]) -> None:
    await client.send_all(b"hello")
    if await client.receive_some() == b"hello":
        replied.append(number)


if __name__ == "__main__":
    missing = trio.run(check, serve)
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)
