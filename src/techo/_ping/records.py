"""The records of ping: each result until it is asked for, and what adds up."""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from typing import Final

import attrs
import trio

from techo._kernel.packets import Packet
from techo._kernel.reports import ReportedError
from techo._ping.connector import Connector
from techo._ping.deadline import Deadline
from techo._ping.results import PingFailure, PingReply, PingResult
from techo._ping.statistics import PingStatistics
from techo._probing.engine import Engine
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.in_flight import Run
from techo._probing.outages import Outages
from techo._probing.setup import Setup
from techo._probing.trip import Clock, Incident, IncidentKind, Trip, TripState
from techo._tls.certificates import days_until
from techo._transport.connect import Connected

MOST_WAITING: Final = 10_000
"""Results that wait for being asked for; while there are so many no probe is sent."""


_NO_PACKET: Final = Packet(b"")
"""Of which nothing is known, as where this program's clock timed the reply."""


@attrs.define(eq=False)
class Records:
    """The sink of a ping."""

    endpoint: str
    run: Run = attrs.field(init=False)
    """The run that this is the sink of."""
    results: collections.deque[PingResult] = attrs.field(factory=collections.deque)
    """What nobody has asked for yet."""
    changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Where those wait who have asked for the next."""
    deadline: Deadline | None = None
    """What ends the run sooner; None if nothing does."""
    deliver: Callable[[PingResult], None] | None = None
    """Takes each result at once; if None, it waits until it is asked for."""
    _path_mtu: int | None = None
    """Bytes of the largest packet on the way, as far as something was too large."""
    _path_mtu_from: str | None = None
    """Who has said so; None if this machine has."""
    _received: int = 0
    _late: int = 0
    _duplicate: int = 0
    _corrupt: int = 0
    _stray: int = 0
    _reconnects: int = 0
    _failures: collections.Counter[FailureCause] = attrs.field(factory=collections.Counter)
    _largest: int | None = None
    _latency: Histogram = attrs.field(factory=Histogram)
    _clocks: collections.Counter[Clock] = attrs.field(factory=collections.Counter)
    _client: Histogram = attrs.field(factory=Histogram)
    _squares: int = 0
    """The sum of all squares of round trip times, in nanoseconds squared."""
    _last: int | None = None
    """The round trip time before the next, in nanoseconds."""
    _differences: int = 0
    """The sum of differences between one and the next, in nanoseconds."""
    _outages: Outages = attrs.field(factory=Outages)
    _setup: Setup = attrs.field(factory=Setup)

    def add(self, trip: Trip) -> None:
        """Count a probe whose state has just changed; see `Sink`."""
        at, now = time.time(), self.run.clock()
        if trip.state is TripState.LOST and trip.ending is not None:
            self._failures[trip.ending.cause] += 1
            self._outages.settle(trip, now, at)
            self._note_mtu(trip.ending.error)
            self._put(PingFailure(trip.number, trip.ending.cause, trip.ending.reason, at))
            self._see_whether_over(trip)
            return
        late, duplicate = trip.state is TripState.LATE, trip.state is TripState.DUPLICATE
        self._late += late
        self._duplicate += duplicate
        if trip.ending is not None and not duplicate:
            self._failures[trip.ending.cause] -= 1
        duration, size = trip.duration_ns, len(trip.payload)
        client = None if trip.kernel_ns is None else trip.user_ns - trip.kernel_ns
        if not duplicate:
            self._count(size, duration)
            self._clocks[trip.clock] += 1
            if client is not None:
                self._client.record(client)
        if trip.state is TripState.ANSWERED and trip.ending is None:
            self._outages.settle(trip, now, at)
        times = duration / 1e9, at
        clocks = trip.clock, None if client is None else client / 1e9
        headers = trip.packet or _NO_PACKET
        had = headers.ttl, headers.dscp, headers.ecn
        self._put(PingReply(trip.number, size, *times, late, duplicate, *clocks, *had))
        self._see_whether_over(trip)

    def _note_mtu(self, error: Exception | None) -> None:
        if isinstance(error, ReportedError) and error.mtu is not None:
            if error.mtu != self._path_mtu or error.offender is not None:
                self._path_mtu_from = error.offender
            self._path_mtu = error.mtu

    def _see_whether_over(self, trip: Trip) -> None:
        if self.deadline is not None and self.deadline.is_over(trip, self._received):
            self.run.done.set()

    def _count(self, size: int, duration: int) -> None:
        self._received += 1
        self._largest = max(self._largest or 0, size) or None
        self._latency.record(duration)
        self._squares += duration**2
        if self._last is not None:
            self._differences += abs(duration - self._last)
        self._last = duration

    def note(self, incident: Incident) -> None:
        """Count what happened other than to a probe; see `Sink`."""
        kind, cause = incident.kind, incident.cause
        if kind is IncidentKind.FORGOTTEN:  # no harm, and too late to tell which probe it was
            return
        if kind is IncidentKind.STRAY:
            self._stray += 1
            return
        self._corrupt += cause is FailureCause.CORRUPT
        if kind is IncidentKind.BROKEN and not incident.trips:
            self._put(PingFailure(None, cause, incident.reason, time.time()))

    def connected(self, connected: Connected, *, again: bool) -> None:
        """Count how long the steps to a connection took; see `Sink`."""
        self._reconnects += again
        self._setup.note(connected)

    def _put(self, result: PingResult) -> None:
        if self.deliver is not None:
            self.deliver(result)
            return
        self.results.append(result)
        self.run.schedule.paused = len(self.results) >= MOST_WAITING
        self.changed.unpark()

    def take(self) -> PingResult:
        """Return the result that has waited for longest."""
        result = self.results.popleft()
        self.run.schedule.paused = False
        return result

    def statistics(self, engine: Engine | Connector) -> PingStatistics:
        """Return what is known by now, of which `engine` knows the sockets."""
        count = self._latency.count
        outages = self._outages.so_far()
        days = days_until(self._setup.certificate_end, time.time())
        variance = count * self._squares - self._latency.sum**2  # times count squared; exact
        return PingStatistics(
            endpoint=self.endpoint,
            address=engine.address,
            sent=self.run.begun,
            received=self._received,
            lost=self._failures.total(),
            in_flight=self.run.in_flight,
            missed=self.run.schedule.missed,
            late=self._late,
            duplicate=self._duplicate,
            corrupt=self._corrupt,
            stray=self._stray,
            failures={cause: n for cause in FailureCause if (n := self._failures[cause])},
            reconnects=self._reconnects,
            largest=self._largest,
            latency=self._latency.copy(),
            clocks={clock: n for clock in Clock if (n := self._clocks[clock])},
            client=self._client.copy(),
            mdev=math.isqrt(variance) // count if count else None,
            jitter=round(self._differences / (count - 1)) if count > 1 else None,
            outages=outages.count,
            outage_seconds=outages.seconds,
            longest_outage=outages.longest,
            path_mtu=self._path_mtu,
            path_mtu_from=self._path_mtu_from,
            certificate_end=self._setup.certificate_end,
            certificate_days=None if days is None else math.floor(days),
            setup=self._setup.durations(),
            mptcp=engine.mptcp,
            tcp=engine.tcp,
            dropped_here=engine.dropped_here,
        )
