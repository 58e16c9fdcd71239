"""Together: what several shares of a load report, as one load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import trio

from techo._load.interval import until_given_up
from techo._load.part import LoadPart
from techo._load.plan import LoadPlan
from techo._load.report import LoadReport
from techo._probing.arrivals import RisingRate
from techo._probing.histogram import Histogram

_LATEST: float = 0.5
"""Seconds after which those that reported are shown, though others did not."""


@attrs.define(eq=False)
class Share:
    """One share of a load: what it is to do, and what it has reported."""

    name: str
    plan: LoadPlan
    report: LoadReport
    """The latest."""
    reached: bool | None = None
    """Whether it has connected; None until it has tried."""
    over: bool = False
    """There is nothing more to come from it."""
    died: str | None = None
    """How it ended, if it did before it could report its end."""
    lived: float | None = None
    """Seconds that it had reported when it died; None if it has not."""
    fresh: bool = False
    """Whether it has reported since all were added up last."""
    clock: tuple[float, float] | None = None
    """How far the clock of its machine is from ours, and by how much that may be wrong."""

    @property
    def so_far(self) -> LoadReport:
        """What it has reported, without the seconds after it gave up or died."""
        report = until_given_up(self.report)
        if self.lived is None:
            return report
        return attrs.evolve(report, seconds=min(report.seconds, self.lived))

    @property
    def part(self) -> LoadPart:
        """What it had of the load."""
        offset, error = self.clock or (None, None)
        return LoadPart.of(
            self.name, self.report, self.died, clock_offset=offset, clock_error=error
        )


@attrs.define(eq=False)
class Together:
    """All shares of a load, fed by who runs them."""

    shares: Sequence[Share]
    stopped: bool = False
    """Whether it was to end before its time."""
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    @classmethod
    def of(cls, endpoint: str, plans: Sequence[LoadPlan], names: Sequence[str]) -> Together:
        """Return shares of which nothing is known yet."""
        return cls(
            [
                Share(name, plan, nothing(endpoint, plan))
                for name, plan in zip(names, plans, strict=True)
            ]
        )

    def ready(self, share: Share, *, reached: bool) -> None:
        """Note that a share has tried to open its connections."""
        share.reached = reached
        self._changed.unpark_all()

    def take(self, share: Share, report: LoadReport, *, over: bool = False) -> None:
        """Note what a share has reported: so far, or in the end."""
        share.report, share.fresh, share.over = report, True, over
        self._changed.unpark_all()

    def bury(self, share: Share, how: str) -> None:
        """Note that a share has died: what it has not reported, it has not sent."""
        share.lived = share.report.seconds
        share.report = abandoned(share.report, share.plan, stopped=self.stopped)
        share.over, share.died = True, how
        self._changed.unpark_all()

    async def until_ready(self) -> bool:
        """Wait until each has tried to connect or is over; return whether to begin."""
        while any(each.reached is None and not each.over for each in self.shares):
            await self._changed.park()
        return any(each.reached and not each.over for each in self.shares)

    async def show(self, watch: Callable[[LoadReport], None]) -> None:
        """Call `watch` with the sum each time that all have reported, until all are over.

        Who gave up or died is in it without the seconds that it was asked for after that: what
        the others report next would otherwise seem to happen at the end.
        """
        while True:
            with trio.move_on_after(_LATEST):
                while not all(each.fresh or each.over for each in self.shares):
                    await self._changed.park()
            if any(each.fresh for each in self.shares):
                for each in self.shares:
                    each.fresh = False
                watch(self._sum([each.so_far for each in self.shares]))
            if all(each.over for each in self.shares):
                return
            await trio.lowlevel.checkpoint()

    def report(self) -> LoadReport:
        """Return the sum of all, and what each had of it."""
        return self._sum([each.report for each in self.shares])

    def _sum(self, reports: Sequence[LoadReport]) -> LoadReport:
        merged = LoadReport.merged(reports)
        parts = [each.part for each in self.shares]
        # Shares of a rate are no exact numbers, and nor is their sum.
        rate = None if merged.rate is None else float(f"{merged.rate:.12g}")
        spans = sorted(span for each in self.shares for span in each.report.outage_spans)
        return attrs.evolve(merged, parts=parts, rate=rate, outage_spans=spans)


def nothing(endpoint: str, plan: LoadPlan) -> LoadReport:
    """Return the report of a load of which nothing is known."""
    scheduled = plan.rate is not None
    return LoadReport(
        endpoint=endpoint,
        address=None,
        connections=plan.connections,
        size=plan.size,
        pipeline=plan.pipeline,
        rate=plan.rate,
        arrivals=plan.arrivals if scheduled else None,
        seeds=() if plan.seed is None else (plan.seed,),
        ramp_seconds=plan.ramp,
        seconds=0.0,
        gave_up_after_seconds=None,
        received=0,
        received_bytes=0,
        lost=0,
        in_flight=0,
        failures={},
        reasons={},
        reconnects=0,
        reconnect_every=plan.reconnect_every,
        connect=Histogram(),
        late=0,
        duplicate=0,
        stray=0,
        outages=0,
        outage_seconds=0.0,
        longest_outage=None,
        unsent=0,
        service=Histogram(),
        response=Histogram() if scheduled else None,
        send_lag=Histogram() if scheduled else None,
        client_cpu_seconds=0.0,
        client_cpu_percent=None,
        client_was_limit=False,
    )


def abandoned(report: LoadReport, plan: LoadPlan, *, stopped: bool) -> LoadReport:
    """Return the last report of a share that has died: what is not in it is unsent.

    Nobody knows of trips that were in flight, so that they count as unsent, too. Its seconds
    are all that were asked for, as those of a load that gave up.
    """
    over = report.received + report.lost
    unsent, seconds = report.unsent + report.in_flight, report.seconds
    if not stopped:
        unsent = max(unsent, _due(plan) - over)
        seconds = max(seconds, plan.asked or 0.0)
    return attrs.evolve(report, in_flight=0, unsent=unsent, seconds=seconds)


def _due(plan: LoadPlan) -> int:
    """Return how many trips a plan has after its warm-up; 0 if that is not said.

    Of trips that are due at random, it is their mean.
    """
    if plan.trips is not None:
        return plan.trips
    if plan.rate is None or plan.asked is None:
        return 0
    rate = RisingRate(plan.rate, plan.ramp or 0.0)
    warm_up, end = (
        math.ceil(round(rate.trips_within(moment) - plan.first, 6))
        for moment in (plan.warm_up, plan.warm_up + plan.asked)
    )
    return end - warm_up
