"""techo: an echo service under trio's structured concurrency.

`open_server` serves for the length of a block, and `open_client` connects to any echo server:

    async with techo.open_server("tcp://127.0.0.1:0") as server:
        async with techo.open_client(server.endpoint) as client:
            trip = await client.round_trip(b"hello")

`EchoService` has a handler for your own listeners. `ping` and `load` measure loss and latency,
`capacity` finds the highest rate that holds, `compare` what has changed between loads, and
`watch` measures for days.
A reply is `raw`, `stamped` or your own function. `techo.testing` has servers that misbehave.
`techo help library` prints the chapter that lists every name here; `embed` and `test` go on.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from techo._capacity.capacity import capacity
    from techo._capacity.report import Capacity, CapacityOutcome
    from techo._capacity.step import CapacityStep, StepVerdict
    from techo._client.client import EchoClient, RoundTrip, open_client
    from techo._client.comparison import EchoError, EchoMismatch, ShortReply
    from techo._comparing.compare import compare
    from techo._comparing.comparison import ComparedFigure, Comparison, Verdict
    from techo._echo_service import EchoService, open_server
    from techo._kernel.mptcp import MptcpPaths
    from techo._kernel.options import SocketOptions
    from techo._load.load import load
    from techo._load.part import LoadPart
    from techo._load.probe_report import ProbePhase, ProbeReport
    from techo._load.report import LoadReport
    from techo._operate.admission import Admission
    from techo._ping.ping import Ping, ping
    from techo._ping.results import PingFailure, PingReply, PingResult
    from techo._ping.statistics import PingStatistics
    from techo._probing.arrivals import Arrivals
    from techo._probing.failure_cause import FailureCause
    from techo._probing.histogram import Histogram
    from techo._probing.outages import Outage
    from techo._probing.trip import Clock
    from techo._server.connection import Outcome, Peer
    from techo._server.datagrams import DatagramStatistics, DropReason
    from techo._server.hook import RefusedError, ServiceHook
    from techo._server.limits import Limits
    from techo._server.registry import Statistics
    from techo._watch.counts import Counts, Snapshot
    from techo._watch.events import Change, Event, EventKind, State
    from techo._watch.targets import Thresholds, WatchTarget
    from techo._watch.watch import Watch, watch
    from techo.endpoint import Endpoint, Kind
    from techo.reply import Reply, raw, stamped

__version__ = "0.1.0"

__all__ = [
    "Admission",
    "Arrivals",
    "Capacity",
    "CapacityOutcome",
    "CapacityStep",
    "Change",
    "Clock",
    "ComparedFigure",
    "Comparison",
    "Counts",
    "DatagramStatistics",
    "DropReason",
    "EchoClient",
    "EchoError",
    "EchoMismatch",
    "EchoService",
    "Endpoint",
    "Event",
    "EventKind",
    "FailureCause",
    "Histogram",
    "Kind",
    "Limits",
    "LoadPart",
    "LoadReport",
    "MptcpPaths",
    "Outage",
    "Outcome",
    "Peer",
    "Ping",
    "PingFailure",
    "PingReply",
    "PingResult",
    "PingStatistics",
    "ProbePhase",
    "ProbeReport",
    "RefusedError",
    "Reply",
    "RoundTrip",
    "ServiceHook",
    "ShortReply",
    "Snapshot",
    "SocketOptions",
    "State",
    "Statistics",
    "StepVerdict",
    "Thresholds",
    "Verdict",
    "Watch",
    "WatchTarget",
    "capacity",
    "compare",
    "load",
    "open_client",
    "open_server",
    "ping",
    "raw",
    "stamped",
    "watch",
]

_ROOMS = {
    "_capacity.capacity": ("capacity",),
    "_capacity.report": ("Capacity", "CapacityOutcome"),
    "_capacity.step": ("CapacityStep", "StepVerdict"),
    "_client.client": ("EchoClient", "RoundTrip", "open_client"),
    "_client.comparison": ("EchoError", "EchoMismatch", "ShortReply"),
    "_comparing.compare": ("compare",),
    "_comparing.comparison": ("ComparedFigure", "Comparison", "Verdict"),
    "_probing.arrivals": ("Arrivals",),
    "_probing.failure_cause": ("FailureCause",),
    "_probing.histogram": ("Histogram",),
    "_kernel.mptcp": ("MptcpPaths",),
    "_kernel.options": ("SocketOptions",),
    "_load.load": ("load",),
    "_load.part": ("LoadPart",),
    "_load.probe_report": ("ProbePhase", "ProbeReport"),
    "_load.report": ("LoadReport",),
    "_operate.admission": ("Admission",),
    "_ping.ping": ("Ping", "ping"),
    "_ping.results": ("PingFailure", "PingReply", "PingResult"),
    "_ping.statistics": ("PingStatistics",),
    "_probing.outages": ("Outage",),
    "_probing.trip": ("Clock",),
    "_server.connection": ("Outcome", "Peer"),
    "_server.datagrams": ("DatagramStatistics", "DropReason"),
    "_server.hook": ("RefusedError", "ServiceHook"),
    "_server.limits": ("Limits",),
    "_server.registry": ("Statistics",),
    "_echo_service": ("EchoService", "open_server"),
    "_watch.counts": ("Counts", "Snapshot"),
    "_watch.events": ("Change", "Event", "EventKind", "State"),
    "_watch.targets": ("Thresholds", "WatchTarget"),
    "_watch.watch": ("Watch", "watch"),
    "endpoint": ("Endpoint", "Kind"),
    "reply": ("Reply", "raw", "stamped"),
}


def __getattr__(name: str) -> object:
    # Looked up on first use, because importing trio takes longer than --help should.
    for room, names in _ROOMS.items():
        if name in names:
            from techo._fields import with_texts  # noqa: PLC0415  -- likewise

            return with_texts(getattr(importlib.import_module(f"techo.{room}"), name))
    raise AttributeError(f"module 'techo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
