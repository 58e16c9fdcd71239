"""The pace: one timer for all targets, which sends what is due and gives up what is overdue."""

from __future__ import annotations

import heapq
import itertools
from typing import NoReturn

import attrs
import trio

from techo._ping.connector import Connector
from techo._probing.engine import Engine, let_arrive


@attrs.define(eq=False)
class Pace:
    """When each engine is looked at next; all of them are `timed_apart`."""

    _next: list[tuple[float, int, Engine | Connector]] = attrs.field(factory=list)
    """A heap of moments in the run's clock, each with its engine."""
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count)
    """Which make all entries differ, before engines would be compared."""
    _sooner: trio.Event = attrs.field(factory=trio.Event)
    """Set when something is due before what is slept for."""

    def add(self, engine: Engine | Connector) -> None:
        """Look at an engine from now on, until its run is done."""
        self._put(engine.run.schedule.begin, engine)

    def _put(self, moment: float, engine: Engine | Connector) -> None:
        if not self._next or moment < self._next[0][0]:
            self._sooner.set()
        heapq.heappush(self._next, (moment, next(self._numbers), engine))

    async def keep(self) -> NoReturn:
        """Do everything when it is due, until cancelled."""
        while True:
            overdue = self._send_due(trio.current_time())
            if overdue:
                await let_arrive()
                now = trio.current_time()
                for engine in overdue:
                    engine.give_up_overdue(now)
                    self._put(engine.next_moment(now), engine)
            self._sooner = trio.Event()
            with trio.move_on_at(self._next[0][0] if self._next else float("inf")):
                await self._sooner.wait()

    def _send_due(self, now: float) -> list[Engine | Connector]:
        """Let all send that are to; return those which have something to give up."""
        overdue = list[Engine | Connector]()
        while self._next and self._next[0][0] <= now:
            _, _, engine = heapq.heappop(self._next)
            if engine.run.done.is_set():
                continue
            engine.send_due()
            if engine.is_overdue(now):
                overdue.append(engine)
            else:
                self._put(engine.next_moment(now), engine)
        return overdue
