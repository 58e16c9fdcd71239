"""Turns: what long work does between its pieces, so that the loop is not held up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final, TypeVar

import trio

T = TypeVar("T")

_TURN: Final = 0.002
"""Seconds that are computed at a time, about: probes should not wait for longer."""

_PIECE: Final = 5e-4
"""Seconds that are computed at a time in a thread, about. With twice that, the loop was late by
up to 46 ms, and else by 17; what is computed takes a little longer for it."""

_PAUSE: Final = 5e-5
"""Seconds: enough for the loop to take Python, which a thread else keeps for 5 ms."""


def let_the_loop_go_on() -> None:
    """Let the loop have Python for a moment; call this in a thread, each half a millisecond.

    Raises:
        trio.Cancelled: who waits for the thread waits no more.
    """
    trio.from_thread.check_cancelled()
    time.sleep(_PAUSE)  # in a thread: without the interpreter's lock, the loop has its turn


def in_pieces(items: Iterable[T]) -> Iterator[T]:
    """Yield items in a thread, and let the loop go on now and then.

    Raises:
        trio.Cancelled: who waits for the thread waits no more.
    """
    begun = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - begun > _PIECE:
            let_the_loop_go_on()
            begun = time.perf_counter()


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """Yield items, and let other tasks run now and then."""
    await trio.lowlevel.checkpoint()
    begun = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - begun > _TURN:
            await trio.lowlevel.checkpoint()
            begun = time.perf_counter()
