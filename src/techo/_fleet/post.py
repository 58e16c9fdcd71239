"""Post: a task of a mesh. It serves on the machine's own address, and probes the others.

It lets in the fleet alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Final

import attrs
import trio

from techo._echo_service import EchoService
from techo._figures import figures_of_ping
from techo._fleet.work import Task
from techo._kernel.options import SocketOptions
from techo._nursery import open_bare_nursery
from techo._operate.admission import Admission
from techo._ping.ping import Ping, ping
from techo._ping.statistics import PingStatistics
from techo.endpoint import Endpoint
from techo.reply import raw

_NOTED: Final = 0.4
"""Seconds between two notes of how far the probes of a pair are."""


@attrs.frozen(kw_only=True)
class PostOrder:
    """What a machine of a mesh is asked to do."""

    host: str
    """Its own address: there it serves, and from there it probes."""
    allow: tuple[str, ...]
    """Addresses of all machines; others are refused."""
    count: int
    interval: float
    timeout: float
    size: int

    def to_json(self) -> str:
        """Return it as a text."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PostOrder:
        """Read back what `to_json` returned."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "allow": tuple(fields["allow"])})


async def hold(task: Task, text: str) -> dict[str, Any]:
    """Hold a post until it is to end.

    Who asks knows where it serves, what it has found, by the numbers of machines, and whether
    all was probed.

    Raises:
        OSError: it cannot serve on this address.
    """
    order = PostOrder.from_json(text)
    task.note(found={})
    service = EchoService(raw, hook=Admission(allow=order.allow))
    probing = trio.CancelScope()
    async with open_bare_nursery() as nursery:
        (place,) = await nursery.start(service.serve, Endpoint(host=order.host, port=0))
        task.note(endpoint=str(place))
        while (message := await task.hear())["do"] != "end":
            if message["do"] == "begin":
                nursery.start_soon(_probe_all, order, task, message["turns"], probing)
            elif message["do"] == "stop":
                probing.cancel(reason="it was stopped")
        nursery.cancel_scope.cancel(reason="the run is over, or nobody asks any more")
    return {}


async def _probe_all(
    order: PostOrder, task: Task, turns: Sequence[Sequence[Any]], probing: trio.CancelScope
) -> None:
    """Probe in each turn, at a moment of CLOCK_MONOTONIC, a machine of a number, somewhere."""
    with probing:
        async with trio.open_nursery() as nursery:
            for at, number, endpoint in turns:
                nursery.start_soon(_probe, order, task, at, number, endpoint)
    task.note(over=True)


async def _probe(order: PostOrder, task: Task, at: float, number: int, endpoint: str) -> None:
    await trio.sleep(max(0.0, at - time.monotonic()))
    probes = ping(
        endpoint,
        count=order.count,
        interval=order.interval,
        timeout=order.timeout,
        size=order.size,
        options=SocketOptions(source=order.host),
    )
    async with probes:
        try:
            noted = trio.current_time()
            async for _ in probes:
                if (now := trio.current_time()) >= noted + _NOTED:
                    _note(task, number, probes)
                    noted = now
        finally:
            _note(task, number, probes)


def _note(task: Task, number: int, probes: Ping) -> None:
    """Note how far the probes of a machine are."""
    task.note(found={**task.known["found"], number: _as_json(probes.statistics())})


def _as_json(found: PingStatistics) -> dict[str, Any]:
    names = ("sent", "received", "lost", "missed")
    return {
        **{name: getattr(found, name) for name in names},
        "failures": {str(cause): count for cause, count in found.failures.items()},
        "latency": found.latency.to_json(),
        "figures": {str(name): each for name, each in figures_of_ping(found).items()},
    }
