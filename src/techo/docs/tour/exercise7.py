"""Exercise 7: a pump of your own (Linux). Edit `serve`, then run this."""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from trio.testing import wait_all_tasks_blocked


async def serve(sockets: list[socket.socket]) -> None:
    """Echo on each socket until its peer has finished, then close it; return after the last.

    Messages are so small that `send` takes each of them whole and at once.
    """
    async with trio.open_nursery() as nursery:
        for sock in sockets:
            nursery.start_soon(echo, sock)


async def echo(sock: socket.socket) -> None:
    """Echo on one socket, in a task that is woken for every message."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        if not (chunk := sock.recv(4096)):
            sock.close()
            return
        sock.send(chunk)


# The check. Nothing below needs to be changed.

CONNECTIONS: Final = 50
ROUNDS: Final = 5
MOST: Final = 0.5
"""Steps of tasks for a message: a task that is woken takes one."""


class Steps(trio.abc.Instrument):
    """Counts how often tasks take a step, but for the task that made this."""

    def __init__(self) -> None:
        self.count = 0
        self._mine = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step of another task."""
        self.count += task is not self._mine


async def check(answer: Callable[[list[socket.socket]], Awaitable[Any]]) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    pairs = [socket.socketpair() for _ in range(CONNECTIONS)]
    for client, server in pairs:
        client.setblocking(False)
        server.setblocking(False)
    clients = [client for client, _ in pairs]
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, [server for _, server in pairs])
            missing = await _ask(clients)
            for client in clients:
                client.close()
            await wait_all_tasks_blocked(0.1)
            if not missing and nursery.child_tasks:
                missing = "it has not returned after the last peer had finished"
            nursery.cancel_scope.cancel()
        if not missing and any(server.fileno() >= 0 for _, server in pairs):
            missing = "a socket was not closed"
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()
    return missing


async def _ask(clients: list[socket.socket]) -> str:
    """Ask on all connections at once, several times; return what is wrong with the replies."""
    await wait_all_tasks_blocked(0.1)
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    for number in range(ROUNDS):
        for client in clients:
            client.send(b"message %d" % number)
        await wait_all_tasks_blocked(0.1)
        for client in clients:
            try:
                reply = client.recv(4096)
            except BlockingIOError:
                return "a message was not answered"
            if reply != b"message %d" % number:
                return f"the reply to message {number} was {reply!r}"
    each = steps.count / (ROUNDS * len(clients))
    return "" if each <= MOST else f"{each:.2f} steps of tasks for a message, and not {MOST}"


if __name__ == "__main__":
    missing = trio.run(check, serve)
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)
