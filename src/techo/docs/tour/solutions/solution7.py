"""Solution 7: one task waits for all sockets, and serves those that are ready."""

from __future__ import annotations

import select
import socket

import trio


async def serve(sockets: list[socket.socket]) -> None:
    """Echo on each socket until its peer has finished, then close it; return after the last."""
    served = {sock.fileno(): sock for sock in sockets}
    with select.epoll() as ready:
        for number in served:
            ready.register(number, select.EPOLLIN)
        while served:
            await trio.lowlevel.wait_readable(ready.fileno())
            for number, _ in ready.poll(0):
                if chunk := served[number].recv(4096):
                    served[number].send(chunk)
                else:
                    ready.unregister(number)
                    served.pop(number).close()
