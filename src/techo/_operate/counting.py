"""Counting: what a service has done, in plain numbers that cost nothing to keep."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Final, NoReturn

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


FEW: Final = 1000
"""Connections over which counters are added up within a tenth of a millisecond."""

PERIOD: Final = 1.0
"""Seconds for which a sum holds, where there are more."""


@attrs.define(eq=False)
class LatestCounters:
    """Counters that take as long to have at ten thousand connections as at a hundred.

    Each connection counts for itself, which costs a message nothing. So where there are many,
    they are added up once a second, by `keep_adding_up`, and not for each who asks.
    """

    count: Callable[[], Counters]
    _latest: Counters | None = None

    def get(self) -> Counters:
        """Return the counters, a second old at the most."""
        latest = self._latest
        if latest is None or latest.statistics.active <= FEW:
            return self.count()
        return latest

    async def keep_adding_up(self) -> NoReturn:
        """Add up what there is much of, until cancelled."""
        while True:
            self._latest = self.count()
            await trio.sleep(PERIOD)


@attrs.define(eq=False)
class CountingHook(ServiceHook):
    """Counts how long connections lasted."""

    durations: Durations = attrs.field(factory=Durations)

    def connection_ended(self, connection: Connection) -> None:
        """Count one that is over."""
        self.durations.add(trio.current_time() - connection.opened)
