"""The run of a load: its beginning, its pace, its end and its report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import attrs
import trio

from techo._load.report import LoadReport
from techo._probing.carrying import Pumped
from techo._probing.causes import FailureCause
from techo._probing.lane import Work
from techo._probing.load_connections import Connections
from techo._pump import pump

_LIMIT: Final = 0.9
"""Share of one processor from which on the client counts as what was measured."""

_TELLING: Final = 0.1
"""Seconds below which no share is told: beginning takes some itself."""

_WATCHED: Final = 0.2
"""Seconds between two calls of `watch`."""


@attrs.define(eq=False)
class Run:
    """One load, from the first connection to the last reply."""

    name: str
    connections: Connections
    work: Work
    patience: float
    """Seconds for a reply, and for what is due and unsent in the end."""
    stop: trio.Event
    watch: Callable[[LoadReport], None]
    """Told how it stands, now and then and when it is stopped."""
    _counted_from: tuple[float, float] | None = None
    """When counting began, and the CPU that this process had used by then, in seconds."""
    _over: tuple[float, float] | None = None
    """The same of when no trip was under way any more: closing connections takes some, too."""
    _ending: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Ends the wait for the end."""

    async def run(self) -> LoadReport:
        """Connect, make all trips, and report.

        Raises:
            ValueError: the messages are larger than what carries them allows.
        """
        connections = self.connections
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connections.keep)
            nursery.start_soon(self._heed_stop)
            await connections.tried.wait()
            if connections.reached and not connections.refusal and not self.stop.is_set():
                self._begin()
                if self.work.schedule.warm_up:
                    nursery.start_soon(self._begin_counting)
                if self.work.schedule.rate is not None:
                    nursery.start_soon(self._pace)
                nursery.start_soon(self._tell)
                await self._until_done()
                self._over = self._now()
            nursery.cancel_scope.cancel(reason="the load is over")
        if connections.refusal is not None:
            raise connections.refusal
        return self.report()

    def _begin(self) -> None:
        now = self.work.clock()
        self.work.schedule.begin = self.work.tally.last = now
        self.work.begun = True
        if not self.work.schedule.warm_up:
            self._counted_from = self._now()
        self.connections.go_on()

    async def _begin_counting(self) -> None:
        await trio.sleep_until(self.work.schedule.counts_from)
        self._counted_from = self._now()

    def _now(self) -> tuple[float, float]:
        return self.work.clock(), time.process_time()

    async def _until_done(self) -> None:
        """Wait until what is due was sent, or can't be, and has come back or was given up."""
        work, schedule = self.work, self.work.schedule
        while not work.done.is_set() and work.clock() < schedule.end:
            with trio.move_on_at(schedule.end) as self._ending:
                await work.done.wait()
        if schedule.unsent(work.clock()):
            with trio.move_on_after(self.patience):
                await work.done.wait()
            work.stop_sending()
        work.see_whether_done(work.clock())
        await work.done.wait()

    async def _heed_stop(self) -> None:
        await self.stop.wait()
        if self.connections.tried.is_set():
            self.work.schedule.stop(self.work.clock())
            self.work.stop_sending()
            self._ending.cancel(reason="stopped")
        else:
            self.connections.tried.set()
        self.watch(self.report())

    async def _pace(self) -> None:
        """Send when it is time; lanes that become free send what is overdue by themselves."""
        work = self.work
        while (due := work.schedule.next_due(work.clock())) is not None:
            if not work.idle:
                work.freed = trio.Event()
                await work.freed.wait()
            elif due > work.clock():
                await self._sleep_until(due)
            else:
                # Whatever comes of it, this lane does not come first again until it can send.
                lane = next(iter(work.idle))
                del work.idle[lane]
                self.connections.carriers[lane].go_on()

    async def _sleep_until(self, due: float) -> None:
        if any(isinstance(each, Pumped) for each in self.connections.carriers.values()):
            await pump.Pump.of_this_run().sleep_until(due)
        else:
            await trio.sleep_until(due)

    async def _tell(self) -> None:
        while True:
            self.watch(self.report())
            await trio.sleep(_WATCHED)

    def report(self) -> LoadReport:
        """Say what has happened so far."""
        work, tally = self.work, self.work.tally
        scheduled = work.schedule.rate is not None
        begun = work.schedule.begin < math.inf
        seconds = max(0.0, tally.last - work.schedule.counts_from) if begun else 0.0
        now, cpu_now = self._over or self._now()
        since, cpu_then = self._counted_from or (now, cpu_now)
        cpu = cpu_now - cpu_then
        share = cpu / (now - since) if now - since >= _TELLING else None
        errors = {cause: tally.errors[cause] for cause in FailureCause if tally.errors[cause]}
        return LoadReport(
            endpoint=self.name,
            connections=self.connections.count,
            size=work.size,
            pipeline=work.pipeline,
            rate=work.schedule.rate,
            seconds=seconds,
            round_trips=tally.service.count,
            bytes=tally.bytes,
            lost=tally.lost,
            in_flight=work.in_flight,
            errors=errors,
            reasons={cause: tally.reasons[cause] for cause in errors if cause in tally.reasons},
            reconnects=tally.reconnects,
            late=tally.late,
            duplicate=tally.duplicate,
            unsent=work.schedule.unsent(work.clock()) if begun else 0,
            service=tally.service.copy(),
            response=tally.response.copy() if scheduled else None,
            behind=tally.behind.copy() if scheduled else None,
            client_cpu_seconds=cpu,
            client_cpu_share=share,
            client_was_limit=share is not None and share >= _LIMIT,
        )
