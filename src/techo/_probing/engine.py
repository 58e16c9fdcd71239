"""The engine: connections kept open, trips sent when due and given up when overdue.

Ping is one connection at a rate whose trips are reported one by one, load is many whose trips
are counted; both are thin over this. A run ends when `Run.done` is set, or sooner if its block
is left; what it has measured is in the sink at any time.
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import AsyncIterator
from typing import Final, NoReturn

import attrs
import trio

from techo._client.client import check_fits
from techo._kernel.mptcp import MptcpPaths
from techo._kernel.tcp_info import TcpInfo
from techo._nursery import alone, open_bare_nursery
from techo._probing.driver import Driver
from techo._probing.drivers import driver_for
from techo._probing.failure_cause import FailureCause
from techo._probing.in_flight import InFlight, Run
from techo._probing.multipath import Multipath
from techo._probing.socket_figures import SocketFigures
from techo._probing.target import Opener, attempt
from techo._probing.timer import open_timer
from techo._probing.trip import Ending, Incident, IncidentKind

_LOOKS: Final = 100
"""How often overdue replies are looked for, at the most, within the time of one."""

_TURNS: Final = 3
"""Turns of the run in which what is ready is seen, woken and done."""

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
"""Seconds before connecting again after that failed; each pause is twice the one before."""

_MOST_UNANSWERED: Final = 10_000
_MOST_UNANSWERED_BYTES: Final = 2**24
"""Trips over a stream that were given up and may still come back, and how many bytes they may
have: all of them have to be kept. Beyond that the connection is given up."""


_MOST_ADDRESSES: Final = 8
"""That are reported: a name may have another one at each look-up."""

UNBOUNDED: Final = math.inf
"""Trips in flight where there is no limit to their number."""


class Reconnect(enum.Enum):
    """When a connection is opened, and opened again."""

    AT_ONCE = enum.auto()
    """Before the run begins, and soon after the one before has ended."""
    WHEN_DUE = enum.auto()
    """When a trip is due: what is due while that fails is lost for the same cause."""


@attrs.define(eq=False)
class Engine:
    """The connections of one run, and when they send."""

    run: Run
    opener: Opener
    connections: int
    """How many there should be."""
    reconnect: Reconnect
    size: int | None
    """Bytes of every message; None if they differ, and some may be too large."""
    timed_apart: bool = False
    """Whether its owner, who has many of them, calls `send_due` and `give_up_overdue` when it
    is time, instead of tasks here."""
    spread: float = 0.0
    """Seconds within which connections are opened one after the other, from the beginning of
    the run on; 0 for all of them before that."""
    later: float = 0.0
    """How much later all but the first are, as a share of the time between two: other engines
    that begin at the same moment have theirs in between."""
    drivers: dict[InFlight, Driver] = attrs.field(factory=dict, init=False)
    """Those of the connections there are."""
    started: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set when trips may begin."""
    reached: bool = attrs.field(default=False, init=False)
    """Whether there has been a connection."""
    failure: Exception | None = attrs.field(default=None, init=False)
    """Why the run could not go on: a message is too large, or a user's function raised."""
    _addresses: list[str] = attrs.field(factory=list, init=False)
    """Where the connections led that are over."""
    _multipath: Multipath = attrs.field(factory=Multipath, init=False)
    _figures: SocketFigures = attrs.field(factory=SocketFigures, init=False)
    _opening: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    @property
    def address(self) -> str | None:
        """Where the connections lead or have led, several if so; None if that is not known."""
        present = [driver.transport.address for driver in self.drivers.values()]
        return ", ".join(_latest(self._addresses, present)) or None

    @property
    def mptcp(self) -> MptcpPaths | None:
        """What connections have become that were to be MPTCP; None if there were none."""
        return self._multipath.so_far()

    @property
    def tcp(self) -> TcpInfo | None:
        """What TCP says of the latest connection, and what adds up over all; None without."""
        return self._figures.tcp(each.transport for each in self.drivers.values())

    @property
    def dropped_here(self) -> int:
        """How many datagrams our own sockets had no room for."""
        return self._figures.dropped_here(each.transport for each in self.drivers.values())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Nursery]:
        """Keep all connections for the length of a block.

        Where they are opened at once, each has been tried once when the block begins, but for
        those that are opened later. Leaving it closes them, and loses what is in flight.
        Return the nursery of their tasks.
        """
        async with open_bare_nursery() as nursery:
            if not self.timed_apart:
                nursery.start_soon(self._keep_time)
            if self.reconnect is Reconnect.AT_ONCE:
                with self._opening:
                    async with trio.open_nursery() as opening:
                        for number in range(self.connections):
                            place = number + self.later if number else 0.0
                            wait = self.spread * place / self.connections
                            opening.start_soon(nursery.start, self._keep, wait)
            else:
                nursery.start_soon(self._keep)  # noqa: ASYNC113  -- it may begin later
            yield nursery
            nursery.cancel_scope.cancel(reason="the run is over")

    def start(self, nursery: trio.Nursery, at: float | None = None) -> None:
        """Begin to send what is due, from now on or `at` a time in the run's clock."""
        run = self.run
        run.schedule.start(run.clock() if at is None else at)
        self.started.set()
        if run.schedule.rate is not None and not self.timed_apart:
            nursery.start_soon(self._pace)

    def stop(self) -> None:
        """Begin no more trips; the run is done when those in flight are over."""
        self.run.schedule.stop(self.run.clock())
        self.run.stop_sending()
        self._opening.cancel(reason="stopped")

    def fail(self, failure: Exception) -> None:
        """End the run, of which nothing can come any more."""
        self.failure = self.failure or alone(failure)  # as whichever task raised it
        self._opening.cancel(reason="failed")
        self.run.done.set()

    async def _keep(  # noqa: ASYNC128  -- `_keep_one` calls it
        self,
        wait: float = 0.0,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        try:
            if wait:
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await self.started.wait()
                await trio.sleep_until(self.run.schedule.begin + wait)
                await self._wait_if_over()
            await self._keep_one(task_status)
        except Exception as error:  # noqa: BLE001  -- anybody's function; raised by our caller
            self.fail(error)
            await trio.sleep_forever()  # until the block is left

    async def _keep_one(self, task_status: trio.TaskStatus[None]) -> NoReturn:
        """Have a connection, one after the other."""
        pause, broken, first = _FIRST_PAUSE, False, True
        while True:
            if self.reconnect is Reconnect.WHEN_DUE:
                await self._wait_until_due()
            driver = await self._connect(again=broken)
            if first:
                task_status.started()
                first = False
            if driver is not None:
                broken = await self._carry(driver) is not None
                if not broken:
                    await self._wait_if_over()
            if self.reconnect is Reconnect.WHEN_DUE:
                continue
            if driver is not None and (driver.in_flight.answered or not broken):
                pause = _FIRST_PAUSE
                continue
            # Nothing came of it, and nothing would of asking again at once, for ever.
            await trio.sleep(pause)
            # Who answers wrongly should not be flooded, but each of the answers counts.
            wrong = driver is not None and driver.in_flight.failed
            if driver is None or not (wrong and driver.in_flight.traffic.chunks):
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _wait_until_due(self) -> None:
        await self.started.wait()
        due = self.run.schedule.next_due(self.run.clock())
        if due is None:
            await trio.sleep_forever()
        else:
            await trio.sleep_until(due)

    async def _wait_if_over(self) -> None:
        """Wait until the block is left if no trip is due any more: no connection is needed."""
        if self.run.schedule.next_due(self.run.clock()) is None:
            await trio.sleep_forever()

    async def _connect(self, *, again: bool) -> Driver | None:
        """Connect, or note why that failed."""
        began = self.run.clock()
        connected = await attempt(self.opener(), self.run.timeout)
        if isinstance(connected, Ending):
            self._not_connected(connected, began)
            return None
        transport = connected.transport
        if not self.reached and self.size is not None and transport.largest is not None:
            try:
                check_fits(self.size, transport.largest)
            except ValueError as error:
                await trio.aclose_forcefully(transport)
                raise ValueError(f"size {self.size}: {error}") from None
        self.reached = True
        self._multipath.opened(transport)
        self.run.sink.connected(connected, again=again and not transport.connectionless)
        try:
            return driver_for(transport, self.run)
        except ValueError:
            await trio.aclose_forcefully(transport)
            raise

    def _not_connected(self, ending: Ending, began: float) -> None:
        if self.reconnect is Reconnect.WHEN_DUE:
            self.run.lose_due(ending, began)
            return
        incident = Incident(
            IncidentKind.NO_CONNECTION, ending.cause, ending.reason, ending.error
        )
        self.run.sink.note(incident)

    async def _carry(self, driver: Driver) -> Ending | None:
        """Make trips over a connection, when trips may begin, until it is over.

        Return why it broke, or None if all its trips are made.
        """
        try:
            await self.started.wait()
            self.drivers[driver.in_flight] = driver
            ending = await driver.run()
            stuck = driver.in_flight.traffic.send_pending
            if self.reconnect is Reconnect.WHEN_DUE and stuck and ending is not None:
                # It could not be sent behind what was stuck, which is for so long at the most.
                self.run.lose_due(ending, self.run.clock() - self.run.timeout)
            return ending
        finally:
            self.run.idle.pop(driver.in_flight, None)
            self.drivers.pop(driver.in_flight, None)
            self._addresses = _latest(self._addresses, [driver.transport.address])
            self._multipath.closing(driver.transport)
            self._figures.closing(driver.transport)
            await driver.close()  # noqa: ASYNC102  -- shielded, and over in a second

    async def _pace(self) -> None:
        """Send when it is time; a connection that becomes free sends what is overdue itself."""
        run = self.run
        with open_timer() as timer:
            while (due := run.schedule.next_due(run.clock())) is not None:
                if not run.idle:
                    run.freed = trio.Event()
                    await run.freed.wait()
                elif due > run.clock():
                    await timer.sleep_until(due)
                else:
                    self._send_one()

    def _send_one(self) -> None:
        # Whatever comes of it, this one is not first again until it can send.
        in_flight = next(iter(self.run.idle))
        del self.run.idle[in_flight]
        self.drivers[in_flight].go_on()

    def send_due(self) -> None:
        """Send what is due, over connections that are free."""
        run = self.run
        while run.idle and run.overdue:
            self._send_one()

    def next_moment(self, now: float) -> float:
        """Return when `send_due` or `give_up_overdue` will have something to do, or may have.

        What is due and cannot be sent now is sent when there is a connection that can.
        """
        schedule = self.run.schedule
        due = schedule.next_due(now)
        overdue = min(map(_oldest, self.drivers.values()), default=now) + self.run.timeout
        if due is None:
            return overdue
        return max(min(due if due > now else schedule.due_after(now), overdue), now)

    async def _keep_time(self) -> NoReturn:
        """Give up each reply that has not come, when its time is over."""
        while True:
            now = self.run.clock()
            if self.is_overdue(now):
                await let_arrive()
            self.give_up_overdue(now)
            next_one = min(map(_oldest, self.drivers.values()), default=now)
            soon = now + self.run.timeout / _LOOKS
            await trio.sleep_until(max(soon, min(next_one, now) + self.run.timeout))

    def is_overdue(self, now: float) -> bool:
        """Return whether a reply has had its time; before it is given up, `let_arrive`."""
        return any(_oldest(each) + self.run.timeout <= now for each in self.drivers.values())

    def give_up_overdue(self, now: float) -> None:
        """Give up each reply that had not come by then, although its time was over."""
        for driver in tuple(self.drivers.values()):
            self._give_up(driver, now)

    def _give_up(self, driver: Driver, now: float) -> None:
        in_flight, latest = driver.in_flight, now - self.run.timeout
        overdue = in_flight.oldest + self.run.timeout <= now
        reason = f"no reply within {self.run.timeout:g} s"
        if driver.send_pending_since + self.run.timeout <= now:
            # Another connection may work where this one can't even send.
            reason = f"not sent within {self.run.timeout:g} s"
            driver.abort(Ending(FailureCause.TIMEOUT_REPLY, reason))
        elif overdue and not in_flight.keeps_messages and self.run.pipeline < UNBOUNDED:
            driver.abort(Ending(FailureCause.TIMEOUT_REPLY, reason))
        elif overdue:
            size = len(next(iter(in_flight.trips)).payload)
            in_flight.give_up(max(in_flight.oldest, latest), reason)
            unanswered = in_flight.missing - len(in_flight.trips)
            if unanswered >= max(1, min(_MOST_UNANSWERED, _MOST_UNANSWERED_BYTES // size)):
                reason = f"{unanswered} probes not answered"
                ending = Ending(FailureCause.TIMEOUT_REPLY, reason)
                driver.abort(ending)
            else:
                driver.go_on()
        elif not in_flight.trips:
            driver.go_on()  # it could not send, and now it may


async def let_arrive() -> None:
    """Let everything be taken in that has arrived, and be sent that can be.

    What waits in the kernel has come: so after a stall of this program nothing is given up
    that is there.
    """
    for _ in range(_TURNS):
        await trio.lowlevel.checkpoint()


def _latest(before: list[str], now: list[str]) -> list[str]:
    """Return addresses, each once, the latest last; those that are not known are left out."""
    latest = dict.fromkeys(filter(None, reversed([*before, *now])))
    return list(latest)[:_MOST_ADDRESSES][::-1]


def _oldest(driver: Driver) -> float:
    return min(driver.in_flight.oldest, driver.send_pending_since)
