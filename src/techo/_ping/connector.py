"""Connecting instead of echoing: each probe opens a connection of its own, and closes it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import attrs
import trio

from techo._kernel.mptcp import MptcpPaths
from techo._kernel.tcp_info import TcpInfo
from techo._nursery import alone, open_bare_nursery
from techo._probing.driver import close_in_time
from techo._probing.in_flight import Run
from techo._probing.multipath import Multipath
from techo._probing.socket_figures import SocketFigures
from techo._probing.target import Opener, attempt
from techo._probing.timer import open_timer
from techo._probing.trip import Ending, Trip


@attrs.define(eq=False)
class Connector:
    """What takes the place of the engine: a connection for each probe, which sends nothing."""

    run: Run
    opener: Opener
    timed_apart: bool = False
    """Whether its owner calls `send_due` when it is time, as for an engine."""
    failure: Exception | None = attrs.field(default=None, init=False)
    """Why the run could not go on: a user's function raised."""
    address: str | None = attrs.field(default=None, init=False)
    """Where the latest connection led; None if that is not known."""
    _multipath: Multipath = attrs.field(factory=Multipath, init=False)
    _figures: SocketFigures = attrs.field(factory=SocketFigures, init=False)
    _nursery: trio.Nursery = attrs.field(init=False)

    @property
    def mptcp(self) -> MptcpPaths | None:
        """What connections have become that were to be MPTCP; None if there were none."""
        return self._multipath.so_far()

    @property
    def tcp(self) -> TcpInfo | None:
        """What TCP says of the latest connection, and what adds up over all; None without."""
        return self._figures.tcp(())

    @property
    def dropped_here(self) -> int:
        """How many datagrams our own sockets had no room for: there are none."""
        return 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Return the nursery of the tasks for the length of a block; leaving it ends them."""
        async with open_bare_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel(reason="the run is over")

    def start(self, nursery: trio.Nursery, at: float | None = None) -> None:
        """Begin to connect when that is due, from now on or `at` a time in the run's clock."""
        self._nursery = nursery
        self.run.schedule.start(self.run.clock() if at is None else at)
        if not self.timed_apart:
            nursery.start_soon(self._pace)

    def send_due(self) -> None:
        """Connect as often as that is due."""
        while self.run.overdue and (trip := self.run.begin_trip(self.run.clock())) is not None:
            self._nursery.start_soon(self._connect, trip)

    def next_moment(self, now: float) -> float:
        """Return when `send_due` will have something to do."""
        due = self.run.schedule.next_due(now)
        return math.inf if due is None else max(due, now)

    def is_overdue(self, now: float) -> bool:
        """Return whether something is to be given up: attempts end by themselves."""
        del now
        return False

    def give_up_overdue(self, now: float) -> None:
        """Give up nothing; see `is_overdue`."""

    async def _pace(self) -> None:
        run = self.run
        with open_timer() as timer:
            while (due := run.schedule.next_due(run.clock())) is not None:
                if due > run.clock():
                    await timer.sleep_until(due)
                else:
                    self.send_due()
                    await trio.lowlevel.checkpoint()  # what is missed may be all that was due

    async def _connect(self, trip: Trip) -> None:
        try:
            connected = await attempt(self.opener(), self.run.timeout)
        except Exception as error:  # noqa: BLE001  -- anybody's function; raised by our caller
            self.failure = self.failure or alone(error)
            self.run.done.set()
            return
        if isinstance(connected, Ending):
            self.run.lose(trip, connected)
            return
        times, transport = connected.times, connected.transport
        self.address = transport.address or None
        self._multipath.opened(transport)
        self._multipath.closing(transport)
        self.run.sink.connected(connected, again=False)
        # A look-up is no part of it: it asks others, and is timed apart.
        self.run.answer(trip, times.connect + (times.handshake or 0))
        self._figures.closing(transport)
        await close_in_time(transport)
