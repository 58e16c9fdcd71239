"""Capacity: loads at one rate after the other, to find the highest that holds."""

from __future__ import annotations

import functools
import math
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs
import trio

from techo._capacity.client import Pulse, shortcoming
from techo._capacity.objectives import Missed
from techo._capacity.plan import PRECISION, SECONDS, START, STEPS, WARM_UP, SearchPlan
from techo._capacity.report import Capacity, outcome_of
from techo._capacity.search import Search, Trial
from techo._capacity.step import CapacityStep, StepVerdict
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._load.load import carry_out
from techo._load.plan import LoadPlan
from techo._load.report import LoadReport
from techo._nursery import open_bare_nursery
from techo._probing.target import Target, name_of


class Loader(Protocol):
    """Makes a load, on this machine or on others."""

    def __call__(
        self, plan: LoadPlan, *, watch: Callable[[LoadReport], None], stop: trio.Event
    ) -> Awaitable[LoadReport]:
        """Make a load of a plan, and watch and stop it as `load` does."""


async def capacity(
    target: Target,
    slo: str | Sequence[str],
    *,
    start: float = START,
    max_rate: float | None = None,
    precision: float = PRECISION,
    seconds: float = SECONDS,
    max_steps: int = STEPS,
    connections: int = 10,
    size: int = 64,
    pipeline: int = 1,
    reconnect_every: int | None = None,
    warm_up: float = WARM_UP,
    timeout: float | None = None,  # noqa: ASYNC109  -- of each reply, not of the call
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    watch: Callable[[CapacityStep], None] | None = None,
    stop: trio.Event | None = None,
) -> Capacity:
    """Find the highest rate at which `target` holds its `slo`, such as ``"p99<5ms"``.

    Each step is a `load` at a rate, whose response times count from when trips were due. Rates
    begin with `start` and double until one fails; then the gap is halved until it is within
    `precision`, a share; and the rate that won is tried for three times as long, or longer if
    it takes that to see a queue grow. If it fails then, the search goes on below with steps of
    that length. A rate has failed if it did so twice.
    If `start` fails, lower ones are tried, down to a 64th of it.

    Besides the `slo` no connection may be lost, no trip be left unsent and no outage happen,
    unless it has a limit of its own, such as ``"reconnects<5"``. And the server has to keep up:
    what is due must be done in about the time in which it is. Steps are of so many `seconds`,
    or longer if a figure needs more trips. `watch` is called after each step. Set `stop` to end
    the search; what was found until then is returned. Cancellation gives none. For everything
    else see `load`.

    Raises:
        ValueError: an argument makes no sense; the text names it and its value.
    """
    plan = SearchPlan(
        slo=slo,
        start=start,
        max_rate=max_rate,
        precision=precision,
        seconds=seconds,
        max_steps=max_steps,
    )
    load_plan = LoadPlan(
        connections=connections,
        size=size,
        pipeline=pipeline,
        warm_up=warm_up,
        timeout=timeout,
        reconnect_every=reconnect_every,
    )
    loader = functools.partial(
        carry_out, target=target, tls=tls, server_name=server_name, options=options
    )
    return await find(plan, load_plan, loader, name_of(target), watch=watch, stop=stop)


async def find(
    plan: SearchPlan,
    load_plan: LoadPlan,
    loader: Loader,
    endpoint: str,
    *,
    watch: Callable[[CapacityStep], None] | None = None,
    progress: Callable[[Trial, LoadReport], None] | None = None,
    stop: trio.Event | None = None,
    elsewhere: bool = False,
) -> Capacity:
    """Find a capacity with loads that `loader` makes; see `capacity`.

    `progress` is called with what is being tried, and the report so far, now and then. Where
    other processes make the load, and so `elsewhere`, how late this one is means nothing.
    """
    finder = _Finder(
        plan,
        load_plan,
        loader,
        trio.Event() if stop is None else stop,
        (lambda *_: None) if progress is None else progress,
        elsewhere,
    )
    while (step := await finder.next_step()) is not None:
        if watch is not None:
            watch(step)
    search = finder.search
    return Capacity(
        endpoint=endpoint,
        slo=tuple(plan.slo),
        precision=plan.precision,
        outcome=outcome_of(
            finder.steps, over=search.over, lower=search.lower, upper=search.upper
        ),
        rate=search.lower,
        confirmed=search.confirmed and search.lower is not None,
        failed_rate=search.upper,
        steps=tuple(finder.steps),
    )


@attrs.define(eq=False)
class _Finder:
    """Makes one step after the other, as the search asks for them."""

    plan: SearchPlan
    load_plan: LoadPlan
    loader: Loader
    stop: trio.Event
    progress: Callable[[Trial, LoadReport], None]
    elsewhere: bool
    search: Search = attrs.field(init=False)
    steps: list[CapacityStep] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.search = self.plan.search()

    async def next_step(self) -> CapacityStep | None:
        """Make the next step; None if there is none, or the search was stopped."""
        trial = self.search.next()
        if trial is None or self.stop.is_set() or self._is_hopeless():
            return None
        attempt = _Attempt(self, trial)
        report = await attempt.run()
        if self.stop.is_set():
            return None  # it was cut short, and shows nothing
        step = attempt.judge(report)
        self.steps.append(step)
        if step.verdict is not StepVerdict.NEVER_REACHED:
            self.search.take(held=step.held)
        return step

    def _is_hopeless(self) -> bool:
        """Return whether no other rate would come out better."""
        if not self.steps:
            return False
        last = self.steps[-1]
        return last.verdict is StepVerdict.NEVER_REACHED or last.broke_client


@attrs.define(eq=False)
class _Attempt:
    """A step while it is made."""

    finder: _Finder
    trial: Trial
    stop: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set when nothing can hold any more, or nothing is wanted any more."""
    hopeless: list[Missed] = attrs.field(factory=list, init=False)
    """What cannot hold any more, whatever comes."""
    pulse: Pulse = attrs.field(factory=Pulse, init=False)
    trips: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        reconnect_every = self.finder.load_plan.reconnect_every
        self.trips = self.finder.plan.trips(self.trial, reconnect_every)

    @property
    def seconds(self) -> float:
        """How long trips are due."""
        return self.trips / self.trial.rate

    async def run(self) -> LoadReport:
        """Make the load, and end it when it cannot hold any more."""
        finder = self.finder
        plan = attrs.evolve(finder.load_plan, rate=self.trial.rate, seconds=self.seconds)
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._heed_stop)
            if not finder.elsewhere:
                nursery.start_soon(self.pulse.beat)
            report = await finder.loader(plan, watch=self._watch, stop=self.stop)
            nursery.cancel_scope.cancel(reason="the step is over")
        return report

    async def _heed_stop(self) -> None:
        await self.finder.stop.wait()
        self.stop.set()

    def _watch(self, report: LoadReport) -> None:
        if math.isinf(self.pulse.counts_from):
            self.pulse.counts_from = trio.current_time() + self.finder.load_plan.warm_up
        if not self.stop.is_set():
            self.hopeless = self.finder.plan.objectives.hopeless(report, self.trips)
            if self.hopeless:
                self.stop.set()
        self.finder.progress(self.trial, report)

    def judge(self, report: LoadReport) -> CapacityStep:
        """Return the step, with its verdict."""
        missed = self.finder.plan.objectives.missed(report, self.trips, self.hopeless)
        client = None
        if report.never_reached:
            verdict = StepVerdict.NEVER_REACHED
        elif not missed and not any(part.died for part in report.parts):
            verdict = StepVerdict.HELD
        else:
            client = shortcoming(report, missed, self.pulse.lags, self._quickest())
            verdict = StepVerdict.CLIENT_LIMIT if client else StepVerdict.FAILED
        return CapacityStep(
            rate=self.trial.rate,
            seconds=self.seconds,
            confirming=self.trial.confirming,
            verdict=verdict,
            missed=tuple(map(str, missed)),
            client=None if client is None else client.why,
            remedy=None if client is None else client.remedy,
            report=report,
            client_lag=self.pulse.lags,
        )

    def _quickest(self) -> float | None:
        medians = [
            median
            for step in self.finder.steps
            if step.held and (median := step.report.service.percentile(50)) is not None
        ]
        return min(medians, default=None)
