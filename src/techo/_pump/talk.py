"""Talks: what the pump knows of each conversation, and how its task waits for the end."""

from __future__ import annotations

from typing import Protocol

import attrs
import trio

from techo.reply import Reply


class Connection(Protocol):
    """The record of a connection, which the pump keeps up to date."""

    chunks: int
    bytes_in: int
    bytes_out: int
    progress: float
    """When a byte last moved, in the run's clock."""
    owing: bool
    """Whether something is on its way out."""


@attrs.define(eq=False)
class Talk:
    """What the pump knows of one conversation."""

    fd: int
    reply: Reply | None
    """None for `raw`, whose answer is where the chunk is already."""
    connection: Connection
    receive_size: int
    buffers: list[memoryview]
    """Where to receive: one buffer, which all conversations share."""
    packets: bool
    """Whether each receive gives one whole message, so that a short one tells nothing of what
    else there is. The buffer has room for a byte more than a message may have."""
    greedy: bool = False
    """Whether to go on receiving while a rest is unsent. A client must, or it and its server
    would wait for each other; its `reply` must say nothing more while `connection.owing`."""
    endless: bool = False
    """Whether nothing but an error is the end, and no bytes are a message: as of datagrams."""
    unsent: memoryview | None = None
    """The rest of a reply, while the socket takes no more."""
    task: trio.lowlevel.Task | None = None
    """Who is to be woken at the end; None while it is not parked."""
    over: bool = False
    error: BaseException | None = None
    """Why it is over, unless the peer has finished."""

    async def wait(self) -> None:
        """Park the task until it is over; cancellation ends just the waiting."""
        if self.over:
            await trio.lowlevel.checkpoint()
        else:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._wake_up)

    def _wake_up(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED
