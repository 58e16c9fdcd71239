"""The run of a load: its connections, its schedule and its end, in one nursery."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

import attrs
import trio

from techo._client.connecting import Line
from techo._client.datagram_socket import DatagramSocket
from techo._measuring.carrying import Carrier, Pumped, carrier_for
from techo._measuring.causes import Cause, cause_of
from techo._measuring.lane import Lane, Work
from techo._measuring.load_report import LoadReport
from techo._measuring.opening import Opener
from techo._packets import PacketStream, check_fits
from techo._pump import pump

_LIMIT: Final = 0.9
"""Share of one processor from which on the client counts as what was measured."""

_WATCHED: Final = 0.2
"""Seconds between two calls of `watch`."""

_LOOKS: Final = 100
"""How often replies are looked for that are overdue, at the most, within the time of one."""

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 1.0
"""Seconds before connecting again after that failed; each pause is twice the one before."""


@attrs.define(eq=False)
class Run:
    """One load, from the first connection to the last reply."""

    name: str
    open: Opener
    work: Work
    connections: int
    patience: float
    stop: trio.Event
    carriers: dict[Lane, Carrier] = attrs.field(factory=dict)
    """Those that are connected."""
    _cpu: float = 0.0
    """What this process had used when counting began, in seconds."""
    _cpu_in_the_end: float | None = None
    """And when the last trip was over: to close the connections takes some more."""
    _heard: float = 0.0
    """When a connection that is no more has heard of the server last; 0 for never."""
    _ending: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    """Ends the wait for the end."""
    _waiting: int = 0
    """How many have not yet tried to connect."""
    _ready: trio.Event = attrs.field(factory=trio.Event)
    _refusal: ValueError | None = None
    """Why there can't be a load."""

    async def run(self, watch: Callable[[LoadReport], None] | None) -> LoadReport:
        """Connect, make all trips, and report.

        Raises:
            ValueError: the messages are larger than what carries them allows.
        """
        self._waiting = self.connections
        async with trio.open_nursery() as nursery:
            for _ in range(self.connections):
                nursery.start_soon(self._keep_connected)
            nursery.start_soon(self._heed_stop)
            await self._ready.wait()
            if self.carriers and not self.stop.is_set():
                self._begin()
                nursery.start_soon(self._begin_counting)
                nursery.start_soon(self._give_up_overdue)
                if self.work.schedule.rate is not None:
                    nursery.start_soon(self._pace)
                if watch is not None:
                    nursery.start_soon(self._tell, watch)
                await self._until_done()
                self._cpu_in_the_end = time.process_time()
            nursery.cancel_scope.cancel(reason="the load is over")
        if self._refusal is not None:
            raise self._refusal
        return self.report()

    def _begin(self) -> None:
        now = self.work.clock()
        self.work.schedule.begin = self.work.tally.last = now
        self._cpu = time.process_time()
        for carrier in tuple(self.carriers.values()):
            carrier.go_on()

    async def _begin_counting(self) -> None:
        await trio.sleep_until(self.work.schedule.counts_from)
        self._cpu = time.process_time()

    async def _until_done(self) -> None:
        """Wait until what is due was sent, or can't be, and has come back or was given up."""
        work, schedule = self.work, self.work.schedule
        while not work.done.is_set() and work.clock() < schedule.end:
            with trio.move_on_at(schedule.end) as self._ending:
                await work.done.wait()
        if schedule.unsent(work.clock()):
            with trio.move_on_after(self.patience):
                await work.done.wait()
            schedule.close()
        work.see_whether_done(work.clock())
        await work.done.wait()

    async def _heed_stop(self) -> None:
        await self.stop.wait()
        if self._ready.is_set():
            self.work.schedule.stop(self.work.clock())
            self.work.schedule.close()
            self._ending.cancel(reason="stopped")
        else:
            self._ready.set()

    async def _keep_connected(self) -> None:
        """Have a connection until the load is over."""
        pause = _FIRST_PAUSE
        again = False
        line = await self._connect()
        self._waiting -= 1
        if not self._waiting:
            self._ready.set()
        while True:
            if isinstance(line, Cause):
                cause, progress = line, 0.0
            elif not self._fits(line):
                await trio.aclose_forcefully(line)
                self._ready.set()
                return
            else:
                self.work.tally.reconnects += again and not self.work.warming_up
                again = True
                carrier = carrier_for(line, self.work)
                cause = await self._carry(carrier)
                progress = carrier.lane.traffic.progress
            if progress:
                pause = _FIRST_PAUSE
            else:
                # Nothing came of it, and nothing would of asking again at once, for ever.
                self._give_up_if_hopeless(cause)
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            line = await self._connect()

    async def _connect(self) -> Line | Cause:
        """Connect, or count why that failed; in the warm-up too, or nobody would be told."""
        try:
            with trio.fail_after(self.patience):
                line, _ = await self.open()
        except (OSError, trio.TooSlowError) as error:
            slow = isinstance(error, trio.TooSlowError)
            cause = Cause.TIMEOUT_CONNECT if slow else cause_of(error)
            self.work.tally.errors[cause] += 1
            return cause
        return line

    def _fits(self, line: Line) -> bool:
        if isinstance(line, DatagramSocket | PacketStream):
            try:
                check_fits(self.work.size, line.largest)
            except ValueError as error:
                self._refusal = error
        return self._refusal is None

    def _give_up_if_hopeless(self, cause: Cause) -> None:
        """End the load if nobody has been heard of for long and time alone won't end it."""
        progresses = (each.lane.traffic.progress for each in self.carriers.values())
        heard = max(self._heard, *progresses, 0.0)
        schedule = self.work.schedule
        if heard and schedule.trips is None:
            return
        if self.work.clock() - max(heard, schedule.begin) > self.patience:
            if not self.work.tally.errors.total():
                # It was all in the warm-up, and yet it is what has been found out.
                self.work.tally.errors[cause] += 1
            self.work.done.set()

    async def _carry(self, carrier: Carrier) -> Cause:
        """Make trips over a connection until it breaks; say why it did."""
        self.carriers[carrier.lane] = carrier
        cause = Cause.TIMEOUT_REPLY
        try:
            if self.work.schedule.begin < math.inf:
                carrier.go_on()
            cause = await carrier.carry()
        finally:
            del self.carriers[carrier.lane]
            carrier.lane.broke(cause)
            self._heard = max(self._heard, carrier.lane.traffic.progress)
            await carrier.close()  # noqa: ASYNC102  -- shielded, and over in a second
        return cause

    async def _give_up_overdue(self) -> None:
        """Give up each reply that has not come, when its time is over."""
        while True:
            now = self.work.clock()
            for carrier in tuple(self.carriers.values()):
                oldest = carrier.lane.oldest
                if oldest + self.patience > now:
                    continue
                # Of a lane that can't even send, another connection may make something.
                if carrier.lane.messages and not carrier.stuck():
                    carrier.lane.give_up(max(oldest, now - self.patience))
                    carrier.go_on()
                else:
                    carrier.cut()
            oldest = min((each.lane.oldest for each in self.carriers.values()), default=now)
            soon = now + self.patience / _LOOKS
            await trio.sleep_until(max(soon, min(oldest, now) + self.patience))

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
                self.carriers[lane].go_on()

    async def _sleep_until(self, due: float) -> None:
        if any(isinstance(each, Pumped) for each in self.carriers.values()):
            await pump.Pump.of_this_run().sleep_until(due)
        else:
            await trio.sleep_until(due)

    async def _tell(self, watch: Callable[[LoadReport], None]) -> None:
        while True:
            await trio.sleep(_WATCHED)
            watch(self.report())

    def report(self) -> LoadReport:
        """Say what has happened so far."""
        work, tally = self.work, self.work.tally
        scheduled = work.schedule.rate is not None
        begun = work.schedule.begin < math.inf
        seconds = max(0.0, tally.last - work.schedule.counts_from) if begun else 0.0
        now = self._cpu_in_the_end or time.process_time()
        cpu = now - self._cpu if begun else 0.0
        return LoadReport(
            endpoint=self.name,
            connections=self.connections,
            size=work.size,
            pipeline=work.pipeline,
            rate=work.schedule.rate,
            seconds=seconds,
            round_trips=tally.service.count,
            bytes=tally.bytes,
            lost=tally.lost,
            in_flight=work.in_flight,
            errors={cause: tally.errors[cause] for cause in Cause if tally.errors[cause]},
            reconnects=tally.reconnects,
            late=tally.late,
            duplicate=tally.duplicate,
            unsent=work.schedule.unsent(work.clock()) if begun else 0,
            service=tally.service.copy(),
            response=tally.response.copy() if scheduled else None,
            behind=tally.behind.copy() if scheduled else None,
            client_cpu_seconds=cpu,
            client_was_limit=bool(seconds) and cpu / seconds >= _LIMIT,
        )
