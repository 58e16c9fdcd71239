"""The run of a load: its beginning, its end and its report."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import trio

from techo._load.plan import LoadPlan
from techo._load.probe import Phase, Probe
from techo._load.report import LoadReport
from techo._load.tally import Tally
from techo._nursery import open_bare_nursery
from techo._probing.engine import Engine
from techo._probing.failure_cause import FailureCause
from techo._probing.outages import Silences

_LIMIT: Final = 0.9
"""Share of one processor from which on the client counts as what was measured."""

_ENOUGH: Final = 0.1
"""Seconds below which there is no share: beginning takes some itself."""

_WATCHED: Final = 0.2
"""Seconds between two calls of `watch`."""

Agree: TypeAlias = Callable[[bool], Awaitable[float | None]]
"""Awaited when each connection was tried once, with whether there is one. It returns when to
begin, in trio's clock, or None for not at all; a load that is stopped cancels it."""


@attrs.define(eq=False)
class LoadRun:
    """One load, from the first connection to the last reply."""

    name: str
    engine: Engine
    tally: Tally
    plan: LoadPlan
    stop: trio.Event
    watch: Callable[[LoadReport], None]
    """Called with a report so far, now and then and when it is stopped."""
    agree: Agree | None = None
    """By default it begins at once, if there is a connection."""
    probe: Probe | None = None
    """What probes before the load, beside it and after it, if anything does."""
    _counted_from: tuple[float, float] | None = None
    """When counting began, and the CPU that this process had used by then, in seconds."""
    _over: tuple[float, float] | None = None
    """The same of when no trip was in flight any more: closing connections takes some, too."""
    _ending: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Ends the wait for the beginning, then that for the end."""

    async def run(self) -> LoadReport:
        """Connect, make all trips, and report.

        Raises:
            ValueError: the messages are larger than what carries them allows.
            Exception: what a function of the user's raised.
        """
        engine = self.engine
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._heed_stop)
            if self.probe is not None:
                nursery.start_soon(self.probe.run)
                await self._stay_idle(self.probe, Phase.IDLE)
            async with engine.running() as running:
                moment = None if engine.failure is not None else await self._until_begin()
                if moment is not None:
                    self._start(running, moment)
                    await self._until_done()
                    self._over = self._now()
            if self.probe is not None:
                if self._over is not None:
                    await self._stay_idle(self.probe, Phase.AFTER)
                await self.probe.finish()
            nursery.cancel_scope.cancel(reason="the load is over")
        for each in (engine, *(() if self.probe is None else (self.probe.engine,))):
            if each.failure is not None:
                raise each.failure
        return self.report()

    async def _stay_idle(self, probe: Probe, phase: Phase) -> None:
        """Have a phase of the probe without load, and report progress meanwhile."""
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._report_progress)
            await probe.wait_idle(phase, self.stop)
            nursery.cancel_scope.cancel(reason="the idle phase is over")

    async def _until_begin(self) -> float | None:
        """Return when to begin, when it is time; None if there is nothing to begin."""
        if self.stop.is_set():
            return None
        if self.agree is None:
            return self.engine.run.clock() if self.engine.reached else None
        with self._ending:
            moment = await self.agree(self.engine.reached)
            if moment is not None:
                await trio.sleep_until(moment)
            return moment
        return None

    def _start(self, nursery: trio.Nursery, at: float) -> None:
        self.engine.start(nursery, at)
        self.tally.last = self.engine.run.schedule.begin
        if self.probe is not None:
            self.probe.enter(Phase.LOADED, self.engine.run.schedule.counts_from)
        if self.engine.run.schedule.warm_up:
            nursery.start_soon(self._begin_counting)
        else:
            self._counted_from = self._now()
        nursery.start_soon(self._report_progress)

    async def _begin_counting(self) -> None:
        await trio.sleep_until(self.engine.run.schedule.counts_from)
        self._counted_from = self._now()

    def _now(self) -> tuple[float, float]:
        return self.engine.run.clock(), time.process_time()

    async def _until_done(self) -> None:
        """Wait until what is due was sent, or can't be, and has come back or was given up."""
        run = self.engine.run
        while not run.done.is_set() and run.clock() < run.schedule.end:
            with trio.move_on_at(run.schedule.end) as self._ending:
                await run.done.wait()
        if run.schedule.unsent(run.clock()):
            with trio.move_on_after(self.engine.run.timeout):
                await run.done.wait()
            run.stop_sending()
        if self.probe is not None:  # from now on the load is what it leaves behind
            self.probe.enter(None)
        run.see_whether_done(run.clock())
        await run.done.wait()

    async def _heed_stop(self) -> None:
        await self.stop.wait()
        self.engine.stop()
        self._ending.cancel(reason="stopped")
        self._call_watch()

    async def _report_progress(self) -> None:
        while self.engine.failure is None:
            self._call_watch()
            await trio.sleep(_WATCHED)

    def _call_watch(self) -> None:
        try:
            self.watch(self.report())
        except Exception as error:  # noqa: BLE001  -- anybody's function; `run` raises it
            self.engine.fail(error)

    def report(self) -> LoadReport:
        """Return what has happened so far."""
        run, tally = self.engine.run, self.tally
        schedule = run.schedule
        scheduled, begun = schedule.rate is not None, schedule.begin < math.inf
        # What is over before its time has had all of it.
        moment = run.clock() if self._over is None else math.inf
        unsent = schedule.unsent(run.clock()) if begun else 0
        # The fate of what is unsent is known when it is all over.
        last = self._over[0] if self._over is not None and unsent else tally.last
        seconds = max(schedule.asked(moment), last - schedule.counts_from, 0.0)
        now, cpu_now = self._over or self._now()
        # Of the time asked for, what there was: nobody knows of the rest.
        seen = min(schedule.counts_from + seconds, now)
        if tally.lossy:
            # The datagram that was sent last may just be lost, and nothing came after it.
            sending = schedule.counts_from + schedule.asked(moment)
            seen = min(seen, max(sending, tally.silences.sent))
        silences = tally.silences.so_far(seen) if begun else Silences()
        since, cpu_then = self._counted_from or (now, cpu_now)
        cpu = cpu_now - cpu_then
        share = cpu / (now - since) if now - since >= _ENOUGH else None
        failures = {
            cause: tally.failures[cause] for cause in FailureCause if tally.failures[cause]
        }
        return LoadReport(
            endpoint=self.name,
            address=self.engine.address,
            connections=self.engine.connections,
            size=self.plan.size,
            pipeline=self.plan.pipeline,
            rate=schedule.rate,
            arrivals=self.plan.arrivals if scheduled else None,
            seeds=() if self.plan.seed is None else (self.plan.seed,),
            ramp_seconds=self.plan.ramp,
            seconds=seconds,
            gave_up_after_seconds=None
            if tally.gave_up is None
            else max(0.0, tally.gave_up - schedule.counts_from),
            received=tally.service.count,
            received_bytes=tally.received_bytes,
            lost=tally.lost,
            in_flight=run.in_flight,
            failures=failures,
            reasons={
                cause: tally.reasons[cause] for cause in failures if cause in tally.reasons
            },
            reconnects=tally.reconnects,
            reconnect_every=self.plan.reconnect_every,
            connect=tally.connect.copy(),
            late=tally.late,
            duplicate=tally.duplicate,
            stray=tally.stray,
            outages=silences.count,
            outage_seconds=silences.seconds,
            longest_outage=silences.longest,
            outage_spans=[
                (max(0.0, since - schedule.counts_from), max(0.0, until - schedule.counts_from))
                for since, until in silences.spans
            ],
            unsent=unsent,
            service=tally.service.copy(),
            response=tally.response.copy() if scheduled else None,
            send_lag=tally.send_lag.copy() if scheduled else None,
            client_cpu_seconds=cpu,
            client_cpu_percent=None if share is None else 100 * share,
            client_was_limit=share is not None and share >= _LIMIT,
            mptcp=self.engine.mptcp,
            dropped_here=self.engine.dropped_here,
            probe=None if self.probe is None else self.probe.report(),
        )
