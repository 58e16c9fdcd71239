"""Counting: what a service has done, in plain numbers that cost nothing to keep."""

from __future__ import annotations

import bisect
from typing import Final

import attrs
import trio

from techo._server.connection import Connection
from techo._server.hook import ServiceHook
from techo._server.registry import Statistics

BOUNDS: Final = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 86400.0)
"""Seconds up to which each bucket counts; one more has the rest. From a health check to a peer
that stays for days."""


@attrs.define
class Durations:
    """How many connections lasted how long."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))
    """Of each bucket alone."""
    seconds: float = 0.0
    """Of all together."""

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@attrs.frozen
class Counters:
    """All that is counted, at one moment."""

    statistics: Statistics
    durations: Durations


@attrs.define(eq=False)
class CountingHook(ServiceHook):
    """Counts how long connections lasted."""

    durations: Durations = attrs.field(factory=Durations)

    def connection_ended(self, connection: Connection) -> None:
        """Count one that is over."""
        self.durations.add(trio.current_time() - connection.opened)
