"""Load: many round trips over many connections, as fast as they come back or at a rate."""

from __future__ import annotations

import itertools
import math
import ssl
from collections.abc import Callable
from typing import Literal

import trio

from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._load.plan import LoadPlan, is_lossy
from techo._load.probe import probe_at
from techo._load.report import LoadReport
from techo._load.run import Agree, LoadRun
from techo._load.tally import Tally
from techo._probing.arrivals import (
    Arrivals,
    ArrivalSchedule,
    DueTimes,
    RisingRate,
    arrivals_of,
)
from techo._probing.engine import Engine, Reconnect
from techo._probing.in_flight import Run
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule
from techo._probing.target import Target, name_of, opener_of
from techo.endpoint import Endpoint


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
    reconnect_every: int | None = None,
    arrivals: Arrivals | Literal["uniform", "poisson"] = "uniform",
    seed: int | None = None,
    ramp: float | None = None,
    probe: float | None = None,
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
    later, and counted from when they were due. A broken connection is opened again. With
    `reconnect_every`, one that has made so many trips is closed, and replaced at once: what is
    due meanwhile waits. Datagrams then leave from a new socket.

    The trips of a rate are due evenly, or at random (`arrivals`), drawn from a generator with
    `seed`; the report names a fresh one. Within `ramp`, the rate rises evenly from 0. Without a
    rate, connections begin one after the other. It begins together with the warm-up.

    With `probe`, so many messages of 64 bytes a second go over a connection of their own, for
    at least 2 s before the load, while it runs, and as long after it. The report's `probe` has
    how long they took in each of the three.

    Times are in seconds. `warm_up` comes first and is not counted. A reply is waited for up
    to `timeout` (by default 10 s, for datagrams 1 s), also behind the end. `watch` is called
    five times a second with a report so far. Set `stop` to begin no more trips; `watch` is
    called then, too, and the report is returned when those in flight are over. Cancellation
    closes all connections and gives none.

    Raises:
        ValueError: an argument makes no sense; the text names it and its value.
    """
    plan = LoadPlan(
        connections=connections,
        seconds=seconds,
        trips=trips,
        rate=rate,
        size=size,
        pipeline=pipeline,
        warm_up=warm_up,
        timeout=timeout,
        reconnect_every=reconnect_every,
        arrivals=arrivals_of(arrivals),
        seed=seed,
        ramp=ramp,
        probe=probe,
    )
    return await carry_out(
        plan,
        target,
        tls=tls,
        server_name=server_name,
        options=options,
        watch=watch,
        stop=stop,
    )


async def carry_out(
    plan: LoadPlan,
    target: Target,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    watch: Callable[[LoadReport], None] | None = None,
    stop: trio.Event | None = None,
    agree: Agree | None = None,
) -> LoadReport:
    """Make a load of a plan; see `load`, and `Agree` for when it begins."""
    plan = plan.seeded()
    opener = opener_of(target, tls, server_name, options, plan.connections)
    _check_port(plan, options)
    if isinstance(target, str):
        target = Endpoint.parse(target)
    kind = target.kind if isinstance(target, Endpoint) else None
    tally = Tally(lossy=is_lossy(kind))
    schedule = _schedule(plan)
    run = tally.run = Run(
        schedule=schedule,
        payloads=Payloads(plan.size, least=plan.size),
        sizes=itertools.repeat(plan.size),
        pipeline=plan.pipeline,
        timeout=plan.timeout_over(kind),
        sink=tally,
        take=schedule.take,
        clock=trio.lowlevel.current_clock().current_time,
        trips_each=plan.reconnect_every,
    )
    return await LoadRun(
        name_of(target),
        Engine(
            run,
            opener,
            plan.connections,
            Reconnect.AT_ONCE,
            plan.size,
            spread=0.0 if plan.ramp is None or plan.rate is not None else plan.ramp,
            later=plan.first,
        ),
        tally,
        plan,
        trio.Event() if stop is None else stop,
        (lambda _: None) if watch is None else watch,
        agree,
        probe=None if plan.probe is None else probe_at(plan.probe, opener, run.timeout),
    ).run()


def _check_port(plan: LoadPlan, options: SocketOptions) -> None:
    """Refuse a source port where one connection of the load is not the only one.

    Raises:
        ValueError: there are others; the text says which.
    """
    others = ""
    if plan.reconnect_every is not None:
        others = f"reconnect_every {plan.reconnect_every} has many"
    elif plan.probe is not None:
        others = f"probe {plan.probe:g} has one of its own"
    if options.source_port and others:
        raise ValueError(
            f"source port {options.source_port}: a port is for one connection, and {others}; "
            "leave one of the two out"
        )


def _schedule(plan: LoadPlan) -> Schedule:
    seconds = math.inf if plan.asked is None else plan.asked
    timing = math.inf, plan.warm_up, seconds, plan.trips, plan.rate
    if plan.rate is None or (plan.ramp is None and plan.arrivals is Arrivals.UNIFORM):
        return Schedule(*timing)
    times = DueTimes(RisingRate(plan.rate, plan.ramp or 0.0), plan.seed, plan.first)
    return ArrivalSchedule(*timing, times=times)
