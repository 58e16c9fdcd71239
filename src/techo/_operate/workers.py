"""Workers: processes that serve the same places, watched over by one that serves none.

It stands where a service does: `serve`, `endpoints`, `statistics` and `drain` are those of all
together. Each worker is a task here, from its start to its end.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from techo._log import note, warning
from techo._nursery import open_bare_nursery
from techo._operate.holding import Held, Holder
from techo._operate.processes import Child, Message, open_child
from techo._operate.sums import Report, added, settled, statistics_of
from techo._server.limits import Limits
from techo._server.registry import Statistics
from techo._server.service import note_total
from techo.endpoint import Endpoint

MOST_DEATHS: Final = 5
"""Workers that are started again within `DEATHS_PERIOD`; one more is a fault of the program."""

DEATHS_PERIOD: Final = 60.0
"""Seconds."""

_START: Final = 60.0
"""Seconds that a worker has until it listens, on a machine that is very busy."""

_ANSWER: Final = 1.0
"""Seconds that a worker has to report what it has counted, until its last report counts."""

_STOP: Final = 2.0
"""Seconds that a worker has to end at once and to say what it has counted."""

_LATE: Final = 5.0
"""Seconds beyond the drain's own time, or the last word of a worker, after which it is killed
if it is still there."""

DIVIDED: Final = ("max_connections", "max_parked", "max_handshakes", "max_connects_per_second")
"""Limits that hold for all workers together: each has its share. Those by address, whose
connections can come to any worker, hold in each."""


def share(total: int, number: int, workers: int) -> int:
    """Return what a worker, counted from 0, has of a number that is divided among all."""
    return total // workers + (number < total % workers)


@attrs.define(eq=False)
class Worker:
    """One worker process."""

    number: int
    """Which one of those that serve at the same time, from 0; its successor has the same."""
    child: Child
    ready: trio.Event = attrs.field(factory=trio.Event)
    """It listens."""
    over: trio.Event = attrs.field(factory=trio.Event)
    """It is gone."""
    leaving: bool = False
    """It was told to end, so that its end is no death."""
    report: Report = attrs.field(factory=dict)
    """What it had counted when it said so last."""
    asked: int = 0
    """How many times it was asked for that."""
    answered: int = 0
    """The latest of these that it has answered."""
    failure: str = ""
    """Why it could not start, in its own words."""
    _heard: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def watch(self) -> None:
        """Take in what it says until it is over."""
        while (message := await self.child.channel.receive()) is not None:
            self._take(message)
        with trio.move_on_after(_LATE):
            await self.child.process.wait()
        self.child.process.kill()
        await self.child.process.wait()

    def _take(self, message: Message) -> None:
        if "report" in message:
            self.report = message["report"]
            self.answered = message["answers"]
            self._heard.unpark_all()
        if message.get("ready"):
            self.ready.set()
        self.failure = message.get("failure", self.failure)

    async def ask(self) -> bool:
        """Have it report; return whether it did in time, or is gone, and so does not hang."""
        self.asked += 1
        wanted = self.asked
        with trio.move_on_after(_ANSWER):
            if not await self.child.channel.send({"do": "report", "number": wanted}):
                return True
            while self.answered < wanted and not self.over.is_set():
                await self._heard.park()
        return self.over.is_set() or self.answered >= wanted

    async def leave(self, how: str = "drain") -> None:
        """Tell it to end: to drain, or to stop at once."""
        self.leaving = True
        await self.tell(how)

    async def tell(self, what: str) -> None:
        """Tell it what to do."""
        await self.child.channel.send({"do": what})

    def end(self) -> str:
        """Note that it is over; return how that came."""
        self.over.set()
        self._heard.unpark_all()
        if self.failure:
            return self.failure
        code = self.child.process.returncode or 0
        return f"it was ended by signal {-code}" if code < 0 else f"its exit status was {code}"

    def __str__(self) -> str:
        return f"worker {self.number + 1} (process {self.child.process.pid})"


@attrs.define(eq=False)
class Workers:
    """So many workers that serve the same endpoints, until drained."""

    count: int
    command: Callable[[int, Sequence[Endpoint], int], Sequence[str]]
    """Returns the command line of a worker, from its number, the descriptors that it serves
    and the one of its channel."""
    limits: Limits
    unix_mode: int | None
    endpoints: tuple[Endpoint, ...] = ()
    """What is listened on now, with the real ports."""
    failure: str = ""
    """Why it is to be drained, if too many workers died."""
    stopping: trio.Event = attrs.field(factory=trio.Event)
    """It is to be drained, by who serves it; set by who finds out that it is."""
    _held: list[Held] = attrs.field(factory=list)
    _sockets: contextlib.ExitStack = attrs.field(factory=contextlib.ExitStack)
    """Closes what is held."""
    _workers: dict[Worker, None] = attrs.field(factory=dict)
    """All that are not over, those that are being replaced too; the oldest first."""
    _past: Report = attrs.field(factory=dict)
    """What those counted that are over."""
    _deaths: collections.deque[float] = attrs.field(factory=collections.deque)
    _leaving: bool = False
    """Connections are to end with their next reply, but all goes on."""
    _draining: bool = False
    _reloading: bool = False
    _reload_again: bool = False
    _nursery: trio.Nursery = attrs.field(init=False)
    _changing: list[trio.Lock] = attrs.field(init=False)
    """For each number: held by who starts a successor."""

    @_changing.default
    def _make_locks(self) -> list[trio.Lock]:
        return [trio.Lock() for _ in range(self.count)]

    def statistics(self) -> Statistics:
        """Return the counters of all together as they were reported last; see `refresh`."""
        return statistics_of(self.report())

    def report(self) -> Report:
        """Return the sum of all reports, those of workers that are over included."""
        known = [each.report for each in self._workers if each.report]
        return functools.reduce(added, known, self._past)

    async def refresh(self) -> bool:
        """Have every worker report what it has counted; return whether all did in time."""
        answers = []

        async def ask(worker: Worker) -> None:
            answers.append(await worker.ask())

        async with trio.open_nursery() as nursery:
            for each in self._workers:
                if each.ready.is_set():
                    nursery.start_soon(ask, each)
        return all(answers)

    async def serve(
        self,
        *places: Endpoint,
        task_status: trio.TaskStatus[tuple[Endpoint, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve endpoints until drained or cancelled, which ends the workers at once.

        If too many workers die, `failure` is why, and it is `stopping`.

        Raises:
            OSError: a name is unknown or an address can't be bound; `filename` is the
                endpoint.
            ValueError: a worker refuses to start; the text is why.
        """
        with self._sockets as end:
            holder = Holder(self.count, self.limits.backlog, self.unix_mode, end)
            try:
                async with open_bare_nursery() as self._nursery:
                    for place in places:
                        self._held += await holder.open(place)
                    await self._start_all()
                    self.endpoints = tuple(each.endpoint for each in self._held)
                    task_status.started(self.endpoints)
            finally:
                if self.endpoints:  # so that there was something to count
                    note_total(self.statistics())
                self.endpoints = ()

    async def _start_all(self) -> None:
        """Start as many as there are to be, side by side."""
        failures: list[str] = []

        async def start(number: int) -> None:
            if reason := await self._start(number):
                failures.append(reason)

        async with trio.open_nursery() as nursery:
            for number in range(self.count):
                nursery.start_soon(start, number)
        if failures:
            raise ValueError(failures[0])

    async def _start(self, number: int) -> str:
        """Start a worker and wait until it listens; return why it does not."""
        if self._draining:
            return "the server is draining"
        places = [each.passed(number) for each in self._held]
        try:
            worker: Worker = await self._nursery.start(self._run, number, places)
        except OSError as error:
            return f"cannot start a process: {error.strerror or error}"
        with trio.move_on_after(_START):
            async with trio.open_nursery() as nursery:

                async def wait(event: trio.Event) -> None:
                    await event.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(wait, worker.ready)
                nursery.start_soon(wait, worker.over)
        if worker.ready.is_set():
            return ""
        worker.child.process.kill()
        return worker.failure or f"{worker} did not start"

    async def _run(
        self, number: int, places: Sequence[Endpoint], task_status: trio.TaskStatus[Worker]
    ) -> None:
        """Run one worker from its start to its end, and find it a successor if it dies."""
        passed = [each.descriptor for each in places if each.descriptor is not None]
        command = functools.partial(self.command, number, places)
        async with open_child(command, passed) as child:
            worker = Worker(number, child)
            self._workers[worker] = None
            try:
                if self._draining:  # since it was asked for
                    await worker.leave()
                elif self._leaving:
                    await worker.tell("leave")
                task_status.started(worker)
                await worker.watch()
            except trio.Cancelled:
                with trio.move_on_after(_STOP, shield=True):
                    await worker.leave("stop")
                    await worker.watch()
                raise
            finally:
                del self._workers[worker]
                self._past = added(self._past, settled(worker.report))
                how = worker.end()
        # One that was never ready is the business of who has started it.
        if not worker.leaving and worker.ready.is_set():
            await self._replace_dead(worker, how)

    async def _replace_dead(self, worker: Worker, how: str) -> None:
        """Start a worker again that has died, unless too many have."""
        async with self._changing[worker.number]:
            while not self._draining and not self._serving(worker.number):
                if self._are_too_many_dead():
                    self.failure = (
                        f"{len(self._deaths)} workers died within {DEATHS_PERIOD:g} s, which "
                        f"ends the server; of the last one, {how}"
                    )
                    self.stopping.set()
                    return
                warning("%s died: %s; it is started again", worker, how)
                how = await self._start(worker.number)

    def _serving(self, number: int) -> list[Worker]:
        """Return those of a number that are there to stay."""
        return [each for each in self._workers if each.number == number and not each.leaving]

    def _are_too_many_dead(self) -> bool:
        """Count one that died; return whether too many did of late."""
        now = trio.current_time()
        self._deaths.append(now)
        while self._deaths[0] < now - DEATHS_PERIOD:
            self._deaths.popleft()
        return len(self._deaths) > MOST_DEATHS

    async def reload(self) -> bool:
        """Replace the workers one after the other: each once its successor listens.

        The old ones drain. One that cannot be replaced stays, and so do those after it. Asked
        for while it goes on, it returns False, and is done once more after that.
        """
        if self._reloading:
            self._reload_again = True
            return False
        self._reloading = True
        try:
            while not self._draining:
                self._reload_again = False
                await self._replace_all()
                if not self._reload_again:
                    break
        finally:
            self._reloading = False
        return True

    async def _replace_all(self) -> None:
        for number in range(self.count):
            async with self._changing[number]:
                old = self._serving(number)
                reason = await self._start(number)
                if not reason:
                    for each in old:
                        await each.leave()
            if self._draining:
                return
            if reason:
                warning("reload failed: %s; what runs goes on", reason)
                return
        note("reloaded %d workers", self.count)

    def leave(self) -> None:
        """Let each connection end together with its next reply, from now on."""
        self._leaving = True
        self.tell("leave")

    def tell(self, what: str) -> None:
        """Tell every worker what to do."""
        for each in self._workers:
            self._nursery.start_soon(each.tell, what)

    async def drain(self) -> None:
        """Stop accepting, and wait until every worker has drained; kill those that do not.

        Cancellation leaves them to `serve`.
        """
        self._draining = True
        self._sockets.close()  # what workers have of them, they close
        with trio.move_on_after(self.limits.drain_timeout + _LATE):
            for each in tuple(self._workers):
                await each.leave()  # which waits for one that reads nothing
            while self._workers:
                await next(iter(self._workers)).over.wait()
        for each in tuple(self._workers):
            warning("%s does not end; it is killed", each)
            each.child.process.kill()
            await each.over.wait()
