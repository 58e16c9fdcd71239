"""Solution 3: every piece that was sent is progress, so each has a scope of its own."""

from __future__ import annotations

import trio

IDLE = 60
PIECE = 2**14
"""Bytes. A peer that takes less than this in a minute may be called stalled."""


async def send(stream: trio.abc.SendStream, data: bytes) -> bool:
    """Send all of `data`; return False if for `IDLE` seconds no byte of it moved."""
    for first in range(0, len(data), PIECE):
        with trio.move_on_after(IDLE) as scope:
            await stream.send_all(data[first : first + PIECE])
        if scope.cancelled_caught:
            return False
    return True
