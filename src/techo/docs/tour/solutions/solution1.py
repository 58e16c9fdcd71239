"""Solution 1: a semaphore is asked before accepting, so that a third client waits."""

from __future__ import annotations

import trio


async def serve(listener: trio.SocketListener) -> None:
    """Serve two clients at a time; a third one waits until one of them has finished."""
    room = trio.Semaphore(2)
    async with trio.open_nursery() as connections:
        while True:
            await room.acquire()
            connections.start_soon(_echo, await listener.accept(), room)


async def _echo(stream: trio.SocketStream, room: trio.Semaphore) -> None:
    try:
        async with stream:
            async for chunk in stream:
                await stream.send_all(chunk)
    finally:
        room.release()
