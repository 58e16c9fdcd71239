"""Watch: probes many targets for the length of a block, and tells when each changes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Final, NoReturn, Protocol, Self, TypeAlias

import attrs
import trio

from techo._addresses import is_literal
from techo._block import BlockState
from techo._nursery import alone, open_bare_nursery
from techo._ping.connector import Connector
from techo._ping.deadline import Deadline
from techo._ping.records import Records
from techo._ping.results import PingResult
from techo._ping.statistics import PingStatistics
from techo._probing.engine import UNBOUNDED, Engine, Reconnect
from techo._probing.failure_cause import FailureCause
from techo._probing.in_flight import Run
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule
from techo._probing.target import opener_of
from techo._probing.trip import Ending, Incident, Sink, Trip
from techo._transport.connect import Connected
from techo._validation import COUNT
from techo._watch.changes import Changes
from techo._watch.counts import Snapshot, Span
from techo._watch.events import Change
from techo._watch.lookups import Lookups
from techo._watch.pace import Pace
from techo._watch.record import Record
from techo._watch.targets import WatchTarget
from techo._watch.turns import in_turns
from techo.endpoint import Endpoint, Kind

_TICK: Final = 5.0
"""Seconds between two looks at rules and minutes."""

_SPREAD: Final = (math.sqrt(5) - 1) / 2
"""Of the golden section: so many multiples of it, without their whole part, are spread evenly
however many there are."""

_SOON: Final = 1.0
"""Seconds over which probes are spread whose number is given: somebody waits for them."""


class Recorder(Protocol):
    """What keeps what is found out; see `_watch.history`. It must neither wait nor raise."""

    def put_span(self, span: Span) -> None:
        """Keep a minute of a target."""

    def put_change(self, change: Change) -> None:
        """Keep a change."""


Results: TypeAlias = Callable[[WatchTarget, PingResult], None]
"""Takes what has come of each probe, as ping has it. It must neither wait nor raise."""


@attrs.define(eq=False)
class _Watched:
    """One target, and what probes it."""

    target: WatchTarget
    record: Record
    engine: Engine | Connector
    records: Records | None = None
    """As ping has them, if each result is wanted."""


def watch(
    targets: Iterable[WatchTarget | Endpoint | str],
    *,
    count: int | None = None,
    recorder: Recorder | None = None,
    results: Results | None = None,
    wall: Callable[[], float] = time.time,
) -> Watch:
    """Return what watches `targets` for the length of an ``async with`` block.

    Iterate it in the block: it returns each `Change` of a target's state. It ends only where
    `count` probes of each are over. `snapshot` returns what is known of all at any time, and
    where `results` takes each, `statistics` what ping would have of it.

    Probes are spread over the interval, over a connection each that is kept; a name is looked
    up when there is none. What a user's function raises ends the block, and leaves it as it was
    raised. Cancelling who asks for a change loses none; leaving the block ends all probes.

    Raises:
        ValueError: two targets have the same name, a text is no endpoint, or `count` makes no
            sense.
    """
    COUNT.or_off().check(count=count)
    return Watch(_named(targets), count, recorder, results, wall)


def _named(targets: Iterable[WatchTarget | Endpoint | str]) -> dict[str, WatchTarget]:
    named: dict[str, WatchTarget] = {}
    for each in targets:
        target = each if isinstance(each, WatchTarget) else WatchTarget(endpoint=each)
        if target.name in named:
            raise ValueError(f"two targets are called {target.name!r}: give one a name")
        named[target.name] = target
    return named


@attrs.define(eq=False)
class Watch(AsyncIterator[Change]):
    """Many targets, and what has become of their probes; made by `watch`."""

    _targets: Mapping[str, WatchTarget]
    _count: int | None
    recorder: Recorder | None
    """What keeps minutes and changes from now on."""
    _results: Results | None
    _wall: Callable[[], float]
    deadline: Deadline | None = attrs.field(default=None, init=False)
    """What ends the probes of each target sooner, if results are wanted: ping's -w."""
    _watched: dict[str, _Watched] = attrs.field(factory=dict, init=False)
    _changes: Changes = attrs.field(factory=Changes, init=False)
    _pace: Pace = attrs.field(init=False)
    _lookups: Lookups = attrs.field(init=False)
    _nursery: trio.Nursery = attrs.field(init=False)
    _block: contextlib.AsyncExitStack = attrs.field(
        factory=contextlib.AsyncExitStack, init=False
    )
    _numbers: itertools.count[int] = attrs.field(factory=itertools.count, init=False)
    _running: int = attrs.field(default=0, init=False)
    """Targets whose probes are not all over."""
    _state: BlockState = attrs.field(default=BlockState.NEW, init=False)

    async def __aenter__(self) -> Self:
        if self._state is not BlockState.NEW:
            raise RuntimeError("a watch can be run only once; make another")
        self._state = BlockState.RUNNING
        async with contextlib.AsyncExitStack() as block:
            nursery = self._nursery = await block.enter_async_context(open_bare_nursery())
            self._pace, self._lookups = Pace(), Lookups(nursery)
            nursery.start_soon(self._pace.keep)
            nursery.start_soon(self._tick)
            self._start(self._targets.values())
            self._block = block.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._nursery.cancel_scope.cancel(reason="the block is left")
        try:
            swallowed = await self._block.__aexit__(kind, error, traceback)  # noqa: ASYNC102  -- in bounded time
        except ExceptionGroup as group:
            failure = alone(group)
            if failure is group or group is error:  # the body's own is left as it is
                raise
            raise failure from None
        finally:
            self._state = BlockState.OVER
            for each in self._watched.values():
                each.record.roll(trio.current_time())
            self._changes.end()
        return bool(swallowed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """Return the next change; see `Changes`.

        Raises:
            RuntimeError: there is no ``async with`` round it.
        """
        if self._state is BlockState.NEW:
            raise RuntimeError(
                "watch needs a block to run in: async with techo.watch(...) as watch: "
                "async for change in watch: ..."
            )
        return await self._changes.next()

    @contextlib.asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Change]]:
        """Return another iterator of the changes from now on, for the length of a block."""
        changes = Changes()
        self._changes.others.append(changes)
        if self._state is BlockState.OVER:
            changes.end()
        try:
            yield changes.iterate()
        finally:
            self._changes.others.remove(changes)

    @property
    def targets(self) -> Mapping[str, WatchTarget]:
        """What is watched, by name, in the order in which it was given."""
        return {name: each.target for name, each in self._watched.items()}

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield what is known of each target, in that order, when it is asked for."""
        for each in tuple(self._watched.values()):
            yield each.record.snapshot()

    def snapshot(self) -> list[Snapshot]:
        """Return all `snapshots`, as they are at this moment."""
        return [*self.snapshots()]

    def minute(self, target: str) -> Span | None:
        """Return a target's minute that goes on, up to now; None if there is no such target."""
        watched = self._watched.get(target)
        return None if watched is None else watched.record.minute()

    def statistics(self) -> dict[str, PingStatistics]:
        """Return for each target what ping has of it; empty unless results are wanted."""
        return {
            name: each.records.statistics(each.engine)
            for name, each in self._watched.items()
            if each.records is not None
        }

    def reload(self, targets: Iterable[WatchTarget | Endpoint | str]) -> tuple[int, int]:
        """Watch these targets from now on; return how many began, and how many ended.

        Those that are the same as before go on undisturbed.

        Raises:
            ValueError: as `watch`; nothing has changed then.
            RuntimeError: this is not within the block.
        """
        if self._state is not BlockState.RUNNING:
            raise RuntimeError("a watch takes other targets within its block only")
        wanted = _named(targets)
        gone = [
            each
            for each in self._watched.values()
            if wanted.get(each.target.name) != each.target
        ]
        for each in gone:
            each.engine.run.done.set()
            each.record.roll(trio.current_time())
            del self._watched[each.target.name]
        new = [target for name, target in wanted.items() if name not in self._watched]
        self._start(new)
        self._watched = {name: self._watched[name] for name in wanted}
        return len(new), len(gone)

    def _start(self, targets: Iterable[WatchTarget]) -> None:
        for target in targets:
            watched = self._watched[target.name] = self._make(target)
            self._running += 1
            self._nursery.start_soon(self._keep, watched)

    def _make(self, target: WatchTarget) -> _Watched:
        record = Record(target, self._wall, self._keep_span, self._tell)
        records = None
        if self._results is not None:
            deliver = functools.partial(self._results, target)
            records = Records(target.name, deadline=self.deadline, deliver=deliver)
        count = None if self.deadline is not None else self._count
        schedule = Schedule(math.inf, 0.0, math.inf, count, 1 / target.interval)
        run = record.run = Run(
            schedule=schedule,
            payloads=Payloads(target.size, least=target.size),
            sizes=itertools.repeat(0 if target.connect else target.size),
            pipeline=UNBOUNDED,
            timeout=target.timeout,
            sink=record if records is None else _Both(record, records),
            take=schedule.take_latest,
            timed_by=None,
        )
        record.start(trio.current_time())
        if records is not None:
            records.run = run
        opener = opener_of(
            target.endpoint,
            self._context_of(target),
            target.server_name,
            target.options,
            pinging=True,
            find=self._lookups.look_up,
        )
        if target.connect:
            return _Watched(target, record, Connector(run, opener, timed_apart=True), records)
        engine = Engine(run, opener, 1, Reconnect.WHEN_DUE, target.size, timed_apart=True)
        record.renew = functools.partial(_look_up_again, target, engine)
        return _Watched(target, record, engine, records)

    def _context_of(self, target: WatchTarget) -> ssl.SSLContext | None:
        endpoint = target.endpoint
        if target.tls is not None or not isinstance(endpoint, Endpoint):
            return target.tls
        return _default_context() if endpoint.kind is Kind.TLS else None

    async def _keep(self, watched: _Watched) -> None:
        """Probe one target until that is over, or ended."""
        engine, now = watched.engine, trio.current_time()
        interval = watched.target.interval
        spread = interval if self._count is None else min(interval, _SOON)
        at = now + next(self._numbers) * _SPREAD % 1 * spread
        if self.deadline is None:  # which begins now
            with trio.move_on_at(at):  # so that many targets do not all begin at once
                await engine.run.done.wait()
        async with engine.running() as nursery:
            engine.start(nursery, at)
            self._pace.add(engine)  # until the run is done
            if self.deadline is not None:
                nursery.start_soon(self.deadline.wait, engine.run)
            await engine.run.done.wait()
        if engine.failure is not None:
            raise engine.failure
        self._running -= 1
        has_an_end = self._count is not None or self.deadline is not None
        if has_an_end and not self._running:
            self._changes.end()

    async def _tick(self) -> NoReturn:
        """Look at all again and again, whether probes are over or not."""
        while True:
            await trio.sleep(_TICK)
            async for each in in_turns(tuple(self._watched.values())):
                each.record.tick(trio.current_time())

    def _keep_span(self, span: Span) -> None:
        if self.recorder is not None:
            self.recorder.put_span(span)

    def _tell(self, change: Change) -> None:
        self._changes.put(change)
        if self.recorder is not None:
            self.recorder.put_change(change)


@attrs.frozen
class _Both:
    """A sink that is two."""

    one: Sink
    other: Sink

    def add(self, trip: Trip) -> None:
        """Let both take in a trip."""
        self.one.add(trip)
        self.other.add(trip)

    def note(self, incident: Incident) -> None:
        """Let both take in an incident."""
        self.one.note(incident)
        self.other.note(incident)

    def connected(self, connected: Connected, *, again: bool) -> None:
        """Let both take in a connection."""
        self.one.connected(connected, again=again)
        self.other.connected(connected, again=again)


@functools.cache
def _default_context() -> ssl.SSLContext:
    """Return one context for all, because it reads many files and takes much memory."""
    return ssl.create_default_context()


def _look_up_again(target: WatchTarget, engine: Engine) -> None:
    """Have the name of a target that is down looked up again: it may have moved.

    A connection that breaks does that; a socket for datagrams would never.
    """
    endpoint = target.endpoint
    if isinstance(endpoint, Endpoint) and not endpoint.path and not is_literal(endpoint.host):
        ending = Ending(FailureCause.TIMEOUT_REPLY, "it is looked up again")
        for driver in engine.drivers.values():
            if driver.transport.connectionless:
                driver.abort(ending)
