"""A share of a load on a machine of a fleet: it runs in a process, which a task waits for.

So it has no part in the turns of Dask's threads.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Sequence
from typing import Any

import trio

from techo._fleet import work
from techo._fleet.order import Order
from techo._load.load import carry_out
from techo._load.report import LoadReport
from techo._load.share_process import ShareProcess, follow
from techo._nursery import open_bare_nursery
from techo._operate.processes import Channel, Message, open_child, program


async def carry_out_share(task: work.Task, text: str) -> dict[str, Any]:
    """Have a process carry out an order; return the last report, or how the process died.

    Raises:
        ValueError: it refuses the order; the text is why.
    """
    if os.name == "nt":
        raise ValueError("a machine of a fleet cannot be one with Windows")

    def ready(reached: bool) -> None:  # noqa: FBT001  -- see `follow`
        task.note(reached=reached)

    def take(message: Message) -> None:
        task.note(report=message["report"])

    died: str | None = "it was ended: nobody seemed to ask any more"
    command = functools.partial(command_line, text, work.ABANDONED)
    async with open_child(command) as child, open_bare_nursery() as nursery:
        nursery.start_soon(_pass_on, task, child.channel, nursery)
        died = await follow(child, ready, take)
        nursery.cancel_scope.cancel(reason="it is over")
    return {"report": task.known.get("report"), "died": died}


async def _pass_on(task: work.Task, channel: Channel, nursery: trio.Nursery) -> None:
    """Say to the process what is said to the task.

    Without a word it stops, even if this process stands still.
    """
    while (message := await task.hear())["do"] != "end":
        await channel.send(message)
    nursery.cancel_scope.cancel(reason="its client has asked for that, or is gone")


def command_line(order: str, silence: float, channel: int) -> Sequence[str]:
    """Return how to start the process of an order, which stops after so many silent seconds."""
    return [*program("techo._cli.fleet_process"), str(channel), str(silence), order]


def share_process(order: Order, sock: socket.socket, silence: float) -> ShareProcess:
    """Return the process of an order."""
    tls = order.tls

    async def load(**governing: Any) -> LoadReport:
        return await carry_out(
            order.plan,
            order.endpoint,
            tls=None if tls is None else tls.context(),
            server_name=None if tls is None else tls.server_name,
            options=order.options,
            **governing,
        )

    return ShareProcess(load, sock, silence)
