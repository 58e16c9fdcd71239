"""Draining: every connection ends between two messages if it can, and in time whatever it does.

What is quiet is ended without waking its task twice: the pump half-closes it, discards what
still comes, and wakes the task when the peer has closed, too. With many connections the time
that ending them takes is a part of the drain's time, so that aborting begins before its end.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from typing import Final

import attrs
import trio

from techo._log import warning
from techo._pump.pump import Pump
from techo._server.connection import Connection
from techo._server.registry import Registry

_QUIET: Final = 0.25
"""Seconds: while draining, a pause this long counts as the end of a message. It spans a round
trip on nearly any network, so a sender in mid-message makes none."""

_QUIET_SHARE: Final = 1 / 20
"""The same as a share of the drain time, where that is short."""

_BATCH: Final = 100
"""Connections that are asked to end, or aborted, before other tasks get their turn."""

_FEW: Final = 256
"""Connections that are aborted in no time worth speaking of."""

_PACE: Final = 50e-6
"""Seconds that one takes to end, as long as it was not measured: twice of what it was where
this was written."""

_TURNS: Final = 50
"""Turns of the run that an aborted connection gets for its end: more than any of ours takes."""


def quiet_for(drain_timeout: float) -> float:
    """Return how long a pause counts as the end of a message."""
    return min(_QUIET, drain_timeout * _QUIET_SHARE)


@attrs.define(eq=False)
class Drain:
    """The end of all connections of a service."""

    registry: Registry
    close_timeout: float
    quiet: float
    """See `Connection.quiet`."""
    deadline: float
    """When all are to be over, in the run's clock."""
    _pace: float = _PACE

    async def run(self) -> None:
        """Ask every connection to end, and wait until all have; abort those that are too many.

        It is cancelled when the time is over; `abort` ends the rest then.
        """
        connections, begun = [*self.registry], trio.current_time()
        for first in range(0, len(connections), _BATCH):
            self._ask(connections[first : first + _BATCH])
            await trio.lowlevel.checkpoint()
            self._note_pace(first + _BATCH, trio.current_time() - begun)
            if trio.current_time() > self._latest():
                await self._abort_surplus()
        while len(self.registry) >= _FEW:
            with trio.move_on_at(self._latest()) as scope:
                await self.registry.wait_below(_FEW)
            if scope.cancelled_caught:
                await self._abort_surplus()
        await self.registry.wait_below(1)

    def _ask(self, connections: Collection[Connection]) -> None:
        """Half-close what is quiet; let the others end when they pause."""
        now = trio.current_time()
        pumped = any(each.pumped for each in connections)
        waiting = Pump.of_this_run().waiting() if pumped else set()
        for each in connections:
            each.drain(self.quiet, close_timeout=self.close_timeout, now=now, waiting=waiting)

    def _latest(self) -> float:
        """Return when aborting has to begin, so that all are over at the deadline."""
        active = len(self.registry)
        return self.deadline - (active * self._pace if active >= _FEW else 0)

    async def _abort_surplus(self) -> None:
        """Abort those for whose end there will be no time later, and see how long it takes."""
        before, now = len(self.registry), trio.current_time()
        surplus = int(before - (self.deadline - now) / self._pace)
        # Those first that only wait for their peer to close.
        most = max(surplus, _BATCH)
        chosen = list(itertools.islice((each for each in self.registry if each.closing), most))
        if len(chosen) < most:
            others = (each for each in self.registry if not each.closing)
            chosen += itertools.islice(others, most - len(chosen))
        self._abort(chosen)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        self._note_pace(before - len(self.registry), trio.current_time() - now)

    def _note_pace(self, count: int, seconds: float) -> None:
        """Learn how slow this machine is: asking takes as long as aborting, or less."""
        if count > 0:
            self._pace = max(self._pace, seconds / count)

    def abort(self) -> None:
        """Abort what is left, also if no time was left to ask it."""
        self._abort(self.registry)

    def _abort(self, connections: Iterable[Connection]) -> None:
        for each in connections:
            each.quiet = self.quiet if each.quiet is None else each.quiet
            each.abort()

    async def settle(self) -> None:
        """Wait for the end of what was aborted, but for nothing that takes time."""
        await trio.lowlevel.checkpoint()
        for _ in range(_TURNS):
            if not len(self.registry):
                return
            await trio.lowlevel.checkpoint()
        warning("%d aborted connections have not ended", len(self.registry))
