"""Exercise 3: a slow reader is not a stalled one. Edit `send`, then run this."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

IDLE = 60
"""Seconds without a byte moved after which a peer is given up."""


async def send(stream: trio.abc.SendStream, data: bytes) -> bool:
    """Send all of `data`; return False if for `IDLE` seconds no byte of it moved."""
    with trio.move_on_after(IDLE) as scope:
        await stream.send_all(data)
    return not scope.cancelled_caught


# The check. Nothing below needs to be changed.


class SlowStream(trio.abc.SendStream):
    """A peer that reads 1,024 bytes a second, and nothing more after so many bytes."""

    def __init__(self, stops_after: int) -> None:
        self.stops_after = stops_after
        self.taken = bytearray()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Take data at the peer's speed."""
        for first in range(0, len(data), 1024):
            await trio.sleep(1)
            self.taken += data[first : first + 1024]
            if len(self.taken) >= self.stops_after:
                await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        """Do not wait: the peer's speed is that of `send_all`."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close nothing."""
        await trio.lowlevel.checkpoint()


async def check(answer: Callable[[trio.abc.SendStream, bytes], Awaitable[bool]]) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    data = bytes(range(256)) * 1024
    slow, stalled = SlowStream(2 * len(data)), SlowStream(100 * 1024)
    if not await answer(slow, data):
        return f"a peer that read all the time was given up after {len(slow.taken)} bytes"
    if slow.taken != data:
        return "what was sent is not the data, each byte of it once and in order"
    begun = trio.current_time()
    with trio.move_on_after(3600) as scope:
        sent = await answer(stalled, data)
    if scope.cancelled_caught:
        return "a peer that has stopped reading was never given up"
    waited = trio.current_time() - begun - 100
    if sent or waited > 2 * IDLE:
        return f"a peer that has stopped reading was given up after {waited:.0f} s"
    return ""


if __name__ == "__main__":
    missing = trio.run(check, send, clock=MockClock(autojump_threshold=0))
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)
