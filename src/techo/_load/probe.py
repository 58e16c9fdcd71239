"""The probe of a load: a few small messages a second beside it, and before and after it."""

from __future__ import annotations

import collections
import enum
import itertools
import math
from typing import Final

import attrs
import trio

from techo._kernel.stamps import Sending
from techo._load.probe_report import SIZE, ProbePhase, ProbeReport
from techo._probing.engine import UNBOUNDED, Engine, Reconnect
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.in_flight import Run
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule
from techo._probing.target import Opener
from techo._probing.trip import Clock, Incident, Trip, TripState
from techo._transport.connect import Connected

_IDLE_SECONDS: Final = 2.0
_IDLE_PROBES: Final = 25
"""How long, and of how many probes at the least, an idle phase is. Responsiveness takes 20 of
them, and some may be missed."""


class Phase(enum.StrEnum):
    """When a probe was sent; what is in no phase is not counted."""

    IDLE = "idle"
    LOADED = "loaded"
    AFTER = "after"


@attrs.define(eq=False)
class _Counted:
    """What has become of the probes of one phase."""

    latency: Histogram = attrs.field(factory=Histogram)
    failures: collections.Counter[FailureCause] = attrs.field(factory=collections.Counter)

    def so_far(self) -> ProbePhase:
        failures = {cause: n for cause in FailureCause if (n := self.failures[cause])}
        return ProbePhase(latency=self.latency.copy(), failures=failures)


@attrs.define(eq=False)
class ProbeTally:
    """The sink of a probe.

    A probe belongs to the phase in which it was sent, whenever it comes back. So one that was
    on its way when the load began counts as idle, although it may have met the load.
    """

    clocks: collections.Counter[Clock] = attrs.field(factory=collections.Counter)
    _phases: dict[Phase, _Counted] = attrs.field(
        factory=lambda: {phase: _Counted() for phase in Phase}
    )
    _begins: list[tuple[float, Phase | None]] = attrs.field(factory=list)
    """When each phase begins, or a time between two phases, in the run's clock."""

    def enter(self, phase: Phase | None, at: float) -> None:
        """Let a phase begin; what was to begin then or later does not begin any more."""
        self._begins = [each for each in self._begins if each[0] < at]
        self._begins.append((at, phase))

    def _counted(self, trip: Trip) -> _Counted | None:
        for begin, phase in reversed(self._begins):
            if begin <= trip.sent:
                return None if phase is None else self._phases[phase]
        return None

    def add(self, trip: Trip) -> None:
        """Count a probe whose state has just changed; see `Sink`."""
        counted = self._counted(trip)
        if counted is None:
            return
        if trip.state is TripState.LOST and trip.ending is not None:
            counted.failures[trip.ending.cause] += 1
        elif trip.state is TripState.ANSWERED:
            if trip.ending is not None:  # what was taken for its harmed reply was none
                counted.failures[trip.ending.cause] -= 1
            counted.latency.record(trip.duration_ns)
            self.clocks[trip.clock] += 1

    def note(self, incident: Incident) -> None:
        """Let pass what costs no probe; see `Sink`."""

    def connected(self, connected: Connected, *, again: bool) -> None:
        """Let pass a new connection; see `Sink`."""

    def so_far(self, rate: float, missed: int) -> ProbeReport:
        """Return what has been found."""
        phases = {phase.value: each.so_far() for phase, each in self._phases.items()}
        return ProbeReport(rate=rate, missed=missed, clocks=dict(self.clocks), **phases)


@attrs.define(eq=False)
class Probe:
    """A connection of its own, over which probes go for as long as `run` does."""

    rate: float
    engine: Engine
    tally: ProbeTally

    @property
    def idle_seconds(self) -> float:
        """How long it probes before the load, and after it."""
        return idle_seconds(self.rate)

    async def run(self) -> None:
        """Send probes when they are due, and connect again if need be, until cancelled."""
        async with self.engine.running() as nursery:
            self.engine.start(nursery)
            await trio.sleep_forever()

    async def wait_idle(self, phase: Phase, stop: trio.Event) -> None:
        """Have a phase without load, which ends sooner if `stop` is set or nothing can come."""
        self.enter(phase)
        with trio.move_on_after(self.idle_seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_when_failed, nursery.cancel_scope)
                await stop.wait()
                nursery.cancel_scope.cancel(reason="stopped")
        self.enter(None)

    async def _cancel_when_failed(self, scope: trio.CancelScope) -> None:
        await self.engine.run.done.wait()
        scope.cancel(reason="nothing can come any more")

    def enter(self, phase: Phase | None, at: float | None = None) -> None:
        """Let a phase begin now, or `at` a time in the run's clock."""
        self.tally.enter(phase, self.engine.run.clock() if at is None else at)

    async def finish(self) -> None:
        """Send no more, and wait for what is in flight."""
        self.engine.stop()
        await self.engine.run.done.wait()

    def report(self) -> ProbeReport:
        """Return what has been found so far."""
        return self.tally.so_far(self.rate, self.engine.run.schedule.missed)


def idle_seconds(rate: float) -> float:
    """Return how long a probe of such a rate probes before a load, and after it."""
    return max(_IDLE_SECONDS, _IDLE_PROBES / rate)


def probe_at(rate: float, opener: Opener, timeout: float) -> Probe:
    """Return a probe that waits for each reply so many seconds."""
    tally = ProbeTally()
    schedule = Schedule(math.inf, 0.0, math.inf, None, rate)
    run = Run(
        schedule=schedule,
        payloads=Payloads(SIZE, least=SIZE),
        sizes=itertools.repeat(SIZE),
        pipeline=UNBOUNDED,
        timeout=timeout,
        sink=tally,
        take=schedule.take_latest,
        clock=trio.lowlevel.current_clock().current_time,
        timed_by=None,
        # The queue of this machine's own interface is part of what a load fills. What waits
        # for that in the connection itself, behind other probes, is not.
        stamped=Sending.QUEUED,
    )
    return Probe(rate, Engine(run, opener, 1, Reconnect.WHEN_DUE, SIZE), tally)
