"""Ping: one probe after another, each matched to its reply or to the cause of its loss."""

from __future__ import annotations

import contextlib
import itertools
import math
import ssl
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Final, Literal, Self

import attrs
import trio

from techo._block import BlockState
from techo._kernel import stamps
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._ping.connector import Connector
from techo._ping.deadline import Deadline
from techo._ping.records import Records
from techo._ping.results import PingResult
from techo._ping.statistics import PingStatistics
from techo._probing.engine import UNBOUNDED, Engine, Reconnect
from techo._probing.in_flight import Run
from techo._probing.payloads import SIZE, Payloads
from techo._probing.schedule import Schedule
from techo._probing.target import Target, check_connecting, name_of, opener_of
from techo._probing.trip import Clock
from techo._validation import COUNT, SECONDS_ABOVE_0
from techo.endpoint import Endpoint, Kind

_UNIX_HAS_NONE: Final = "Linux stamps no Unix sockets"
_MPTCP_HAS_NONE: Final = "Linux stamps nothing that MPTCP sends"


def ping(
    target: Target,
    *,
    count: int | None = None,
    interval: float = 1.0,
    timeout: float = 1.0,
    size: int | range = 64,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    deadline: float | None = None,
    connect: bool = False,
    clock: Clock | Literal["kernel", "user"] | None = None,
) -> Ping:
    """Return what probes `target` for the length of an ``async with`` block.

    Iterate it in the block: it returns a result for each probe. `target` is an endpoint, or an
    async function that connects. A probe of `size` bytes is sent every `interval` seconds,
    `count` of them or no end, whether results are asked for or not; 10,000 of these wait. What
    could not be sent when it was due, because the program was busy or too many results wait, is
    missed. Probes that are due while there is no connection are lost for the same cause. If
    `size` is a range, each probe has the next of its sizes; without `count` that is done once.
    A reply, as a connection, is waited for up to `timeout` seconds. Round trips are timed by
    the kernel where it can, and else by this program; `clock` asks for one of the two.

    With `deadline` it is over after so many seconds. It is over sooner when `count` probes
    have come back, of which more are sent then, or at an error after which nobody can answer:
    ping(8) does the same with -w.

    With `connect` each probe opens a connection of its own, TLS handshake included, and sends
    nothing: for servers that do not echo. `size` is not used then.

    Raises:
        ValueError: an argument makes no sense; the text names it and its value. Iterating
            raises it if a probe is larger than any message here, unless `size` is a range, or
            if the kernel's clock is asked for and it turns out that there is none.
        TypeError: `target` is neither an endpoint nor a function.
    """
    SECONDS_ABOVE_0.check(interval=interval, timeout=timeout)
    SECONDS_ABOVE_0.or_off().check(deadline=deadline)
    COUNT.or_off().check(count=count)
    if isinstance(size, range) and not size:
        raise ValueError(f"size {size!r} has no size in it")
    # A range has its least and largest at its ends; to look through it may take long.
    ends = (size[0], size[-1]) if isinstance(size, range) else (size,)
    for end in ends:
        SIZE.check(size=end)
    if isinstance(target, str):
        target = Endpoint.parse(target)
    wanted = _read_clock(clock, target, connect=connect)
    records = Records(name_of(target))
    probes = len(size) if count is None and isinstance(size, range) and not connect else count
    if deadline is not None:
        records.deadline = Deadline(deadline, count)
        probes = None if probes == count else probes
    schedule = Schedule(math.inf, 0.0, math.inf, probes, 1 / interval)
    run = records.run = Run(
        schedule=schedule,
        payloads=Payloads(max(ends), least=min(ends)),
        sizes=itertools.repeat(0) if connect else _sizes(size),
        pipeline=UNBOUNDED,
        timeout=timeout,
        sink=records,
        take=schedule.take_latest,
        timed_by=wanted,
    )
    fixed = None if isinstance(size, range) else size
    opener = opener_of(target, tls, server_name, options, pinging=True)
    if connect:
        check_connecting(target)
        return Ping(Connector(run, opener), records)
    return Ping(Engine(run, opener, 1, Reconnect.WHEN_DUE, fixed), records)


def _read_clock(clock: str | None, target: Target, *, connect: bool) -> Clock | None:
    """Return which clock is wanted, if it can be had as far as that is known already."""
    try:
        wanted = None if clock is None else Clock(clock)
    except ValueError:
        raise ValueError(f"clock {clock!r} is neither 'kernel' nor 'user'") from None
    if wanted is Clock.KERNEL:
        if not stamps.AVAILABLE:
            raise ValueError("clock kernel: this system has none; Linux has")
        if connect:
            raise ValueError("clock kernel: connecting has none: messages have")
        if isinstance(target, Endpoint) and target.path:
            raise ValueError(f"clock kernel: {target} has none: {_UNIX_HAS_NONE}")
        if isinstance(target, Endpoint) and target.kind is Kind.MPTCP:
            raise ValueError(f"clock kernel: {target} has none: {_MPTCP_HAS_NONE}")
    return wanted


def _sizes(size: int | range) -> Iterator[int]:
    if isinstance(size, int):
        return itertools.repeat(size)
    return itertools.chain.from_iterable(itertools.repeat(size))  # cycle would keep a copy


@attrs.define(eq=False)
class Ping(AsyncIterator[PingResult]):
    """Probes of one target, and what has become of them; made by `ping`.

    The probes are sent by tasks of the block's, and cancelling who asks for a result loses
    none. Leaving the block closes the connection: what is in flight then stays so.
    """

    _engine: Engine | Connector
    _records: Records
    _state: BlockState = attrs.field(default=BlockState.NEW, init=False)
    _block: contextlib.AsyncExitStack = attrs.field(
        factory=contextlib.AsyncExitStack, init=False
    )
    """Ends the run."""
    _asking: bool = attrs.field(default=False, init=False)
    _failure_told: bool = attrs.field(default=False, init=False)
    """Whether who asked for results knows why there are no more; else leaving raises it."""

    def __repr__(self) -> str:
        sent = self._engine.run.begun
        probes = f", {sent} probes" * bool(sent)
        return f"<Ping of {self._records.endpoint}, {self._state}{probes}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PingResult:
        """Return the next result.

        Raises:
            trio.BusyResourceError: another task is asking.
            RuntimeError: there is no ``async with`` round it.
            Exception: what the user's function that connects raised.
        """
        if self._state is BlockState.NEW:
            raise RuntimeError(
                "ping needs a block to run in: async with techo.ping(...) as ping: "
                "async for result in ping: ..."
            )
        if self._asking:
            raise trio.BusyResourceError("another task is asking this ping for results")
        self._asking = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._records.results:
                if self._engine.failure is not None:
                    self._failure_told = True
                    raise self._engine.failure
                if self._state is BlockState.OVER or self._engine.run.done.is_set():
                    raise StopAsyncIteration
                await self._records.changed.park()
        finally:
            self._asking = False
        return self._records.take()

    async def __aenter__(self) -> Self:
        if self._state is not BlockState.NEW:
            raise RuntimeError("a ping can be run only once; make another")
        async with contextlib.AsyncExitStack() as block:
            nursery = await block.enter_async_context(self._engine.running())
            self._state = BlockState.RUNNING
            self._engine.start(nursery)
            nursery.start_soon(self._wake_when_done)
            if self._records.deadline is not None:
                nursery.start_soon(self._records.deadline.wait, self._engine.run)
            self._block = block.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._state = BlockState.OVER
        self._records.results.clear()
        self._records.changed.unpark_all()
        # The block is the run's own, and closes in bounded time.
        swallowed = await self._block.__aexit__(kind, error, traceback)  # noqa: ASYNC102  -- in bounded time
        if error is None and self._engine.failure is not None and not self._failure_told:
            raise self._engine.failure
        return bool(swallowed)

    async def _wake_when_done(self) -> None:
        await self._engine.run.done.wait()
        self._records.changed.unpark_all()

    def statistics(self) -> PingStatistics:
        """Return what has become of all probes so far."""
        return self._records.statistics(self._engine)
