"""Ping: one probe after another, each matched to its reply or to the cause of its loss.

Nothing runs between two results: whoever asks for the next makes ping send and receive. That
keeps every task and every wait in the caller's hands. What arrives while nobody asks is taken
in at the next call, and counts as having arrived then.
"""

from __future__ import annotations

import itertools
import math
import ssl
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import attrs
import trio

from techo._ping.ping_connection import PingConnection
from techo._ping.ping_records import Probe, Records
from techo._ping.results import PingFailure, PingResult
from techo._ping.statistics import PingStatistics
from techo._probing.opening import Target, name_of, opener
from techo._probing.payloads import SIZE, Payloads
from techo._validation import COUNT, SECONDS_ABOVE_0


def ping(
    target: Target,
    *,
    count: int | None = None,
    interval: float = 1.0,
    timeout: float = 1.0,
    size: int | range = 64,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Ping:
    """Give an async iterator that probes `target` and gives a result for each probe.

    `target` is an endpoint, or an async function that connects. There is a probe of `size`
    bytes every `interval` seconds, `count` of them or no end; where it took longer to ask for
    the next result, those in between are left out. Those that are due while one can't be sent,
    for want of a connection or of room, are lost with it when its time is over. If `size` is a
    range, each probe has the next of its sizes; without `count` that is done once. A reply, as
    a connection, is waited for up to `timeout` seconds.

    Leave it by ``async with``, or call `aclose`, if you stop before the end.

    Raises:
        ValueError: an argument makes no sense; the text names it and its value. The first
            probe raises it if it is larger than any message here, unless `size` is a range.
    """
    SECONDS_ABOVE_0.check(interval=interval, timeout=timeout)
    COUNT.or_off().check(count=count)
    if isinstance(size, range) and not size:
        raise ValueError(f"size {size!r} has no size in it")
    # A range has its least and largest at its ends; to look through it may take long.
    ends = (size[0], size[-1]) if isinstance(size, range) else (size,)
    for end in ends:
        SIZE.check(size=end)
    records = Records(name_of(target))
    fixed = None if isinstance(size, range) else size
    payloads = Payloads(max(ends), least=min(ends))
    open_line = opener(target, tls, server_name)
    connection = PingConnection(open_line, timeout, records, payloads, fixed)
    sizes = itertools.islice(_sizes(size, again=count is not None), count)
    return Ping(interval, timeout, sizes, payloads, records, connection)


def _sizes(size: int | range, *, again: bool) -> Iterator[int]:
    if not isinstance(size, range):
        yield from itertools.repeat(size)
    else:
        yield from size
        while again:
            yield from size


@attrs.define(eq=False)
class Ping(AsyncIterator[PingResult]):
    """Probes of one target, and what has come of them; made by `ping`.

    Whoever is cancelled while asking loses no result, but a connection over which a probe was
    sent in part; it is opened again for the next. A probe of which nothing was sent is sent
    when the next result is asked for.
    """

    _interval: float
    _timeout: float
    _sizes: Iterator[int]
    _payloads: Payloads
    _records: Records
    _connection: PingConnection
    _size: int | None = attrs.field(init=False)
    """Of the next probe; None if there is none any more."""
    _due: float = attrs.field(default=-math.inf, init=False)
    """When the next probe is, in the run's clock: the first at once."""
    _lost: PingFailure | None = attrs.field(default=None, init=False)
    """What has become of the last probe, if it was carried in vain."""
    _lost_until: float = attrs.field(default=-math.inf, init=False)
    """Until when; probes that were due by then are lost for the same reason."""

    def __attrs_post_init__(self) -> None:
        self._size = next(self._sizes, None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PingResult:
        await trio.lowlevel.checkpoint()
        while not self._records.results:
            if self._size is None and not self._records.in_flight:
                await self.aclose()
                raise StopAsyncIteration
            await self._go_on()
        return self._records.results.popleft()

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection; no more results come. TLS says farewell, within the timeout."""
        self._size = None
        self._records.in_flight.clear()
        self._records.results.clear()
        await self._connection.aclose()

    def statistics(self) -> PingStatistics:
        """Say what has become of all probes so far."""
        return self._records.statistics()

    async def _go_on(self) -> None:
        """Do what is due, or wait for whatever comes next."""
        now = trio.current_time()
        await self._connection.give_up_overdue(now)
        if self._records.results:
            return
        if (unsent := self._connection.unsent) in self._records.in_flight:
            await self._carry(unsent)
        elif self._size is not None and self._due <= now:
            await self._probe(self._size, now)
        else:
            await self._connection.receive(self._next_event())

    def _next_event(self) -> float:
        """Give when there is something to do even if nothing comes."""
        oldest = next(iter(self._records.in_flight), None)
        return min(
            math.inf if self._size is None else self._due,
            math.inf if oldest is None else oldest.sent + self._timeout,
        )

    async def _probe(self, size: int, now: float) -> None:
        """Make the next probe, and settle when the one after it is due."""
        due = now if self._due < 0 else self._due
        lost = self._lost if due <= self._lost_until else None
        missed = 0 if lost else (now - due) // self._interval
        self._due = due + (1 + missed) * self._interval
        self._size = next(self._sizes, None)
        probe = self._records.begin(self._payloads, size, now, due if lost else now)
        if lost is None:
            await self._carry(probe)
        else:
            self._connection.lose(probe, lost)

    async def _carry(self, probe: Probe) -> None:
        """Send it; those that are due while that is tried in vain are lost for its reason."""
        await self._connection.carry(probe, self._next_event())
        self._lost, self._lost_until = self._connection.in_vain, trio.current_time()
