"""Step 4 shows how closing a connection can destroy the reply that was just sent on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from trio.testing import wait_all_tasks_blocked

LIMIT = 16 * 2**10
"""Bytes that the server answers on a connection before it ends it."""


async def answer(stream: trio.SocketStream) -> None:
    """Echo so many bytes; what comes after them stays unread."""
    rest = LIMIT
    while rest:
        chunk = await stream.receive_some(rest)
        await stream.send_all(chunk)
        rest -= len(chunk)
    print(f"  the server has sent {LIMIT} bytes without an error, and closes")


async def close_at_once(stream: trio.SocketStream) -> None:
    """Close, whatever is still unread."""
    await stream.aclose()


async def close_gracefully(stream: trio.SocketStream) -> None:
    """Say that nothing more comes, and read until the peer says so too."""
    async with stream:
        await stream.send_eof()
        async for _ in stream:
            pass


async def connect(address: tuple[str, int]) -> trio.SocketStream:
    """Connect with little room for what arrives, as over a slow network."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
    await sock.connect(address)
    return trio.SocketStream(sock)


async def ask(address: tuple[str, int]) -> None:
    """Send a byte more than is answered; read when the server has done what it can."""
    got, end = 0, "the end of the stream"
    async with await connect(address) as client:
        await client.send_all(bytes(LIMIT + 1))
        await wait_all_tasks_blocked(0.2)
        try:
            async for chunk in client:
                got += len(chunk)
        except trio.BrokenResourceError:
            end = "a reset"
    print(f"  the client got {'all' if got == LIMIT else got} of them, then {end}")


async def try_out(close: Callable[[trio.SocketStream], Awaitable[None]]) -> None:
    """Answer one client, then close its connection in the given way."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(ask, listener.socket.getsockname())
        stream = await listener.accept()
        await answer(stream)
        await close(stream)


async def main() -> None:
    """Try out both ways to close."""
    print("wrong: close at once")
    await try_out(close_at_once)
    print("mended: half-close, discard what still comes, then close")
    await try_out(close_gracefully)


trio.run(main)
