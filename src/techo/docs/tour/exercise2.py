"""Exercise 2: a client that gets through with any size. Edit `round_trip`, then run this."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import trio
from trio.testing import open_stream_to_socket_listener, wait_all_tasks_blocked


async def round_trip(client: trio.SocketStream, data: bytes) -> bytes:
    """Send `data` to an echo server; return what comes back, which is as long."""
    await client.send_all(data)
    reply = bytearray()
    while len(reply) < len(data) and (chunk := await client.receive_some()):
        reply += chunk
    return bytes(reply)


# The check. Nothing below needs to be changed.


async def check(answer: Callable[[trio.SocketStream, bytes], Awaitable[bytes]]) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    missing = ""
    async with (
        await open_stream_to_socket_listener(listener) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, _echo, [listener])
        for data in (b"hello", bytes(2**26), b"hello again"):
            replies: list[bytes] = []
            nursery.start_soon(_ask, answer, client, data, replies)
            await wait_all_tasks_blocked(0.3)
            if not replies:
                missing = f"with {len(data)} bytes nobody goes on: each waits for the other"
            elif replies != [data]:
                missing = f"of {len(data)} bytes {len(replies[0])} came back, or others"
            if missing:
                break
        nursery.cancel_scope.cancel()
    return missing


async def _ask(
    answer: Callable[[trio.SocketStream, bytes], Awaitable[bytes]],
    client: trio.SocketStream,
    data: bytes,
    replies: list[bytes],
) -> None:
    replies.append(await answer(client, data))


async def _echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


if __name__ == "__main__":
    missing = trio.run(check, round_trip)
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)
