"""Step 6 shows how one rude client ends a server for all, and a handler that prevents it."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from trio.testing import open_stream_to_socket_listener, wait_all_tasks_blocked

Part: TypeAlias = Callable[[trio.SocketStream], Awaitable[object]]
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, for no time


async def shout(stream: trio.SocketStream) -> None:
    """Answer in capital letters."""
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk.decode().upper().encode())


async def shout_guarded(stream: trio.SocketStream) -> None:
    """Do the same; report what goes wrong instead of raising it."""
    try:
        await shout(stream)
    except Exception as error:  # noqa: BLE001  -- whatever it is, the others are served on
        print("  the log has a", type(error).__name__)


async def send_no_text(client: trio.SocketStream) -> None:
    """Send a byte that is in no text, and wait for the end."""
    await client.send_all(b"\xff")
    await client.receive_some()


async def reset(client: trio.SocketStream) -> None:
    """Ask, and let the close that follows be a reset."""
    await client.send_all(b"hello")
    client.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, RESET_ON_CLOSE)


def first_leaf(error: BaseException) -> BaseException:
    """Return an error out of the groups that nurseries have put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def try_out(handler: Part, be_rude: Part) -> None:
    """Let a polite client talk to a server before and after a rude one."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handler, [listener])
            async with await open_stream_to_socket_listener(listener) as polite:
                await polite.send_all(b"hello")
                print("  the polite client gets", await polite.receive_some())
                async with await open_stream_to_socket_listener(listener) as rude:
                    await be_rude(rude)
                await wait_all_tasks_blocked(0.1)
                await polite.send_all(b"and now?")
                print("  after the rude one it gets", await polite.receive_some())
                nursery.cancel_scope.cancel()
    except* Exception as group:  # noqa: BLE001  -- it is shown
        print("  the server has ended, by a", type(first_leaf(group)).__name__)


async def main() -> None:
    """Let both handlers meet two rude clients."""
    for title, handler in [
        ("wrong: what a handler raises ends the server", shout),
        ("mended: a handler never raises", shout_guarded),
    ]:
        for rude in (reset, send_no_text):
            print(f"{title} ({rude.__name__})")
            await try_out(handler, rude)


trio.run(main)
