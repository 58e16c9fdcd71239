"""Load: many round trips over many connections, as fast as they come back or at a rate."""

from __future__ import annotations

import itertools
import math
import ssl
from collections.abc import Callable
from typing import Final

import trio

from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._load.report import LoadReport
from techo._load.run import LoadRun
from techo._load.tally import Tally
from techo._probing.engine import Engine, Reconnect
from techo._probing.in_flight import Run
from techo._probing.payloads import SIZE, Payloads
from techo._probing.schedule import Schedule
from techo._probing.target import Target, name_of, opener_of
from techo._validation import COUNT, SECONDS_ABOVE_0, SECONDS_FROM_0, TRIPS_PER_SECOND
from techo.endpoint import Endpoint, Kind

SECONDS: Final = 10.0
"""How long trips begin by default."""

_TIMEOUT: Final = 10.0
_TIMEOUT_OF_DATAGRAMS: Final = 1.0
"""Seconds for a reply. A datagram that is longer on its way is lost."""


_DATAGRAMS: Final = (Kind.UDP, Kind.UNIXGRAM)


async def load(
    target: Target,
    *,
    connections: int = 10,
    seconds: float | None = None,
    trips: int | None = None,
    rate: float | None = None,
    size: int = 64,
    pipeline: int = 1,
    warm_up: float = 0.0,
    timeout: float | None = None,  # noqa: ASYNC109  -- of each reply, not of the call
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    watch: Callable[[LoadReport], None] | None = None,
    stop: trio.Event | None = None,
) -> LoadReport:
    """Make round trips for `seconds` (by default 10), or `trips` of them, and report.

    `target` is an endpoint, or an async function that connects. Each of the `connections` has
    up to `pipeline` messages of `size` bytes in flight, each its own, of which every byte is
    verified. Without `rate`, the next is sent when one comes back; with it, `rate` trips are
    due in each second, whatever comes back, and those for which there is no room are sent
    later, and counted from when they were due. A broken connection is opened again.

    Times are in seconds. `warm_up` comes first and is not counted. A reply is waited for up
    to `timeout` (by default 10 s, for datagrams 1 s), also behind the end. `watch` is called
    five times a second with a report so far. Set `stop` to begin no more trips; `watch` is
    called then, too, and the report is returned when those in flight are over. Cancellation
    closes all connections and gives none.

    Raises:
        ValueError: an argument makes no sense; the text names it and its value.
    """
    COUNT.check(connections=connections, pipeline=pipeline)
    COUNT.or_off().check(trips=trips)
    SIZE.check(size=size)
    SECONDS_ABOVE_0.or_off().check(seconds=seconds, timeout=timeout)
    TRIPS_PER_SECOND.or_off().check(rate=rate)
    SECONDS_FROM_0.check(warm_up=warm_up)
    if seconds is not None and trips is not None:
        raise ValueError(f"seconds {seconds!r} and trips {trips!r}: give one of them")
    opener = opener_of(target, tls, server_name, options, connections)
    if isinstance(target, str):
        target = Endpoint.parse(target)
    kind = target.kind if isinstance(target, Endpoint) else None
    if timeout is None:
        timeout = _TIMEOUT_OF_DATAGRAMS if kind in _DATAGRAMS else _TIMEOUT
    if seconds is None:
        seconds = math.inf if trips is not None else SECONDS
    tally = Tally(lossy=kind in _DATAGRAMS or kind is Kind.UNIXPACKET)
    schedule = Schedule(math.inf, warm_up, seconds, trips, rate)
    run = tally.run = Run(
        schedule=schedule,
        payloads=Payloads(size, least=size),
        sizes=itertools.repeat(size),
        pipeline=pipeline,
        timeout=timeout,
        sink=tally,
        take=schedule.take,
        clock=trio.lowlevel.current_clock().current_time,
    )
    engine = Engine(run, opener, connections, Reconnect.AT_ONCE, size)
    return await LoadRun(
        name_of(target),
        engine,
        tally,
        size,
        pipeline,
        trio.Event() if stop is None else stop,
        (lambda _: None) if watch is None else watch,
    ).run()
