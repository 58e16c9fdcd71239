"""Turns: what a thread does between pieces of long work, so that the loop is not held up."""

from __future__ import annotations

import time
from typing import Final

import trio

_PAUSE: Final = 5e-5
"""Seconds: enough for the loop to take Python, which a thread else keeps for 5 ms."""


def let_the_loop_go_on() -> None:
    """Let the loop have Python for a moment; call this in a thread, each half a millisecond.

    Raises:
        trio.Cancelled: who waits for the thread waits no more.
    """
    trio.from_thread.check_cancelled()
    time.sleep(_PAUSE)
