"""A share in a process of its own, so that it has no part in the turns of Dask's threads."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from techo._fleet.order import Order
from techo._load.load import carry_out
from techo._load.report import LoadReport
from techo._load.share_process import ShareProcess
from techo._operate.processes import program


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
