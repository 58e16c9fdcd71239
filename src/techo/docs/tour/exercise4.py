"""Exercise 4: a graceful close that always ends. Edit `close`, then run this."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

CLOSE = 1
"""Seconds that a peer has for its own end."""


async def close(stream: trio.abc.HalfCloseableStream) -> None:
    """Half-close, discard what comes for `CLOSE` seconds at the most, close; never raise."""
    async with stream:
        await stream.send_eof()
        async for _ in stream:
            pass


# The check. Nothing below needs to be changed.


class Peer(trio.abc.HalfCloseableStream):
    """A peer that sends ten times a second for so many seconds, and then ends or resets."""

    def __init__(self, seconds: float, *, reset: bool = False) -> None:
        self.reads_left = seconds * 10
        self.reset = reset
        self.steps: list[str] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Take anything."""
        del data
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """Take anything, at once."""
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Note the half-close."""
        await trio.lowlevel.checkpoint()
        self.steps.append("half-close")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what the peer sends until it ends."""
        del max_bytes
        await trio.sleep(0.1)  # of a clock that jumps: see the end of this file
        self.reads_left -= 1
        if self.reads_left > 0:
            return b"more"
        if self.reset:
            raise trio.BrokenResourceError("the peer has reset the connection")
        self.steps.append("end")
        return b""

    async def aclose(self) -> None:
        """Note the close."""
        self.steps.append("close")
        await trio.lowlevel.checkpoint()


async def check(answer: Callable[[trio.abc.HalfCloseableStream], Awaitable[None]]) -> str:
    """Return what is missing; nothing if the exercise is solved."""
    for what, peer, most, expected in [
        ("a peer that ends soon", Peer(0.5), 0.6, ["half-close", "end", "close"]),
        ("a peer that resets", Peer(0.5, reset=True), 0.6, ["half-close", "close"]),
        ("a peer that never ends", Peer(3600), CLOSE, ["half-close", "close"]),
    ]:
        begun = trio.current_time()
        with trio.move_on_after(60):
            try:
                await answer(peer)
            except Exception as error:  # noqa: BLE001  -- it is reported
                return f"{what}: close has raised {error!r}"
        seconds = trio.current_time() - begun
        if seconds > most + 0.01:
            return f"{what}: close took {seconds:.0f} s"
        if peer.steps != expected:
            return f"{what}: the steps were {peer.steps}, and not {expected}"
    return ""


if __name__ == "__main__":
    missing = trio.run(check, close, clock=MockClock(autojump_threshold=0))
    print(f"not yet: {missing}" if missing else "solved")
    sys.exit(1 if missing else 0)
