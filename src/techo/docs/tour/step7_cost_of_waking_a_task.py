"""Step 7 measures what waking a task for every message costs, and techo without that."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio

import techo

CONNECTIONS, ROUNDS, MESSAGE = 100, 50, b"x" * 64
Handler: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]


async def echo(stream: trio.SocketStream) -> None:
    """Do what the handler of step 1 does: its task is woken for every message."""
    async with stream:
        async for chunk in stream:
            await stream.send_all(chunk)


def ask(clients: list[socket.socket], rounds: int) -> None:
    """Send a message on every connection and wait for all replies, so many times."""
    for _ in range(rounds):
        for client in clients:
            client.sendall(MESSAGE)
        for client in clients:
            client.recv(len(MESSAGE), socket.MSG_WAITALL)


async def measure(handler: Handler) -> float:
    """Return the microseconds of CPU that a message costs the server's thread."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = listener.socket.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        clients = [socket.create_connection(address) for _ in range(CONNECTIONS)]
        await trio.to_thread.run_sync(ask, clients, 1)  # so that all are accepted
        before = time.thread_time_ns()
        await trio.to_thread.run_sync(ask, clients, ROUNDS)
        used = time.thread_time_ns() - before
        for client in clients:
            client.close()
        nursery.cancel_scope.cancel()
    return used / (CONNECTIONS * ROUNDS) / 1000


async def main() -> None:
    """Measure both handlers, each behind the same accept loop."""
    service = techo.EchoService(reply=techo.raw)
    print(f"wrong: a task woken for every message: {await measure(echo):.1f} us of CPU each")
    print(f"mended: techo's pump: {await measure(service.handle):.1f} us of CPU each")


trio.run(main)
