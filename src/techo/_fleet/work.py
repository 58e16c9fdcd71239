"""Work: what runs on a machine of a fleet. Dask calls these functions there, by their names.

A task runs in a thread, in a trio of its own. What governs it comes by calls of their own,
which the machine answers between other things; a task that nobody asks about any more ends.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
import trio

from techo._operate.processes import Message
from techo._printable import printable

ABANDONED: Final = 10.0
"""Seconds without a question after which a task ends: who has ordered it may be gone."""


@attrs.define(eq=False)
class Task:
    """What runs here, as other threads see it."""

    known: Mapping[str, Any] = attrs.field(factory=dict)
    """What there is to know of it: replaced, never changed, since other threads read it."""
    _token: trio.lowlevel.TrioToken = attrs.field(factory=trio.lowlevel.current_trio_token)
    _say: trio.MemorySendChannel[Message] = attrs.field(init=False)
    _said: trio.MemoryReceiveChannel[Message] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._say, self._said = trio.open_memory_channel[Message](math.inf)

    def note(self, **known: Any) -> None:
        """Have more to answer to who asks."""
        self.known = {**self.known, **known}

    def say(self, message: Message) -> None:
        """Say something to it, from another thread."""
        with contextlib.suppress(trio.RunFinishedError):  # it is just over
            self._token.run_sync_soon(self._say.send_nowait, message)

    async def hear(self) -> Message:
        """Wait for what is said to it: begin, stop, end, or just go on.

        If nobody asks any more, that is that it should end.
        """
        with trio.move_on_after(ABANDONED):
            return await self._said.receive()
        return {"do": "end"}


Kind: TypeAlias = Callable[[Task, str], Awaitable[dict[str, Any]]]
"""Carries out an order, which is JSON, to its end; returns what has become of it."""

_tasks: Final[dict[str, Task]] = {}
"""Those that run now, by the names of their runs."""


def hello() -> str:
    """Return the version of techo here."""
    from techo import __version__  # noqa: PLC0415  -- the house's front door is above this room

    return __version__


def clocks() -> tuple[float, float]:
    """Return what this machine's clocks say: Unix time, and CLOCK_MONOTONIC."""
    return time.time(), time.monotonic()


def ask(run: str) -> Mapping[str, Any] | None:
    """Return what there is to know of a task; None unless it runs."""
    if (task := _tasks.get(run)) is None:
        return None
    task.say({"do": "go on"})
    return task.known


def tell(run: str, message: Message) -> None:
    """Say something to a task if it runs: nothing is kept for one that may never do."""
    if (task := _tasks.get(run)) is not None:
        task.say(message)


def carry_out(kind: Kind, run: str, order: str) -> dict[str, Any]:
    """Run a task here to its end; return what has become of it, or why it was refused."""
    try:
        return trio.run(_carry_out, kind, run, order)
    except (OSError, ValueError) as error:
        return {"failure": printable(str(error))}


async def _carry_out(kind: Kind, run: str, order: str) -> dict[str, Any]:
    task = _tasks[run] = Task()
    try:
        return await kind(task, order)
    finally:
        del _tasks[run]
