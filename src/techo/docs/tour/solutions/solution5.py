"""Solution 5: waits between two messages have scopes, which a drain cancels all at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

Reply: TypeAlias = Callable[[bytes], Awaitable[bytes]]

DRAIN = 5


async def serve(listener: trio.SocketListener, reply: Reply, stop: trio.Event) -> None:
    """Serve until `stop`; then end quiet clients at once, and others with their reply."""
    quiet: set[trio.CancelScope] = set()
    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(_accept, listener, reply, handlers, stop, quiet)
            await stop.wait()
            accepting.cancel_scope.cancel()
        handlers.cancel_scope.deadline = trio.current_time() + DRAIN
        for scope in quiet:
            scope.cancel()


async def _accept(
    listener: trio.SocketListener,
    reply: Reply,
    handlers: trio.Nursery,
    stop: trio.Event,
    quiet: set[trio.CancelScope],
) -> None:
    async with listener:
        while True:
            handlers.start_soon(_handle, await listener.accept(), reply, stop, quiet)


async def _handle(
    stream: trio.SocketStream, reply: Reply, stop: trio.Event, quiet: set[trio.CancelScope]
) -> None:
    async with stream:
        while not stop.is_set():
            chunk = b""
            with trio.CancelScope() as scope:
                quiet.add(scope)
                chunk = await stream.receive_some()
            quiet.remove(scope)
            if not chunk:
                return
            await stream.send_all(await reply(chunk))
