"""A load by a fleet: shares on many machines, which begin at one moment and report as one."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import attrs
import trio

from techo._fleet.cap import CAP, check_cap, is_own
from techo._fleet.machines import (
    Caller,
    Client,
    FleetError,
    Machine,
    beginning,
    check_versions,
    chosen,
)
from techo._fleet.member import Agreement, Member, call_the_roll
from techo._fleet.order import FleetTls, Order
from techo._fleet.share import carry_out_share
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._load.plan import LoadPlan
from techo._load.report import LoadReport
from techo._load.sharing import divide, head_start
from techo._load.together import Share, Together
from techo._nursery import first_of, open_bare_nursery
from techo._operate.processes import Message
from techo._probing.arrivals import Arrivals, arrivals_of
from techo.endpoint import Endpoint, check_connectable

_LEAD: Final = 0.2
"""Seconds from the decision to the beginning, besides what calls take: enough for each machine
to hear of it."""


async def load(
    client: Client,
    target: Endpoint | str,
    *,
    machines: int | None = None,
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
    tls: FleetTls | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
    cap: float = CAP,
    watch: Callable[[LoadReport], None] | None = None,
    stop: trio.Event | None = None,
) -> LoadReport:
    """Load `target` from all workers of a Dask cluster, and report.

    `client` is a `distributed.Client` that is not asynchronous; `machines` takes so many of its
    workers, the first by address, as text. Connections, trips and the rate are divided among
    the machines, which begin at one moment. The report is of all together; its `parts` have a
    row for each. A machine that dies is named there, and what it has not reported is `unsent`.

    Above `cap` trips per second in all, or without a rate, only machines of the fleet are
    loaded; `math.inf` switches that off. The rest is as in `techo.load`.

    Raises:
        FleetError: there are not so many machines, or one has another version of techo, or the
            load is above the cap; the text has the remedy.
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
    place = check_connectable(target, None, None)
    fleet = await Fleet.of(client, place, machines, tls=tls, options=options, cap=cap)
    return await fleet.load(plan, watch=watch, stop=stop)


@attrs.define(eq=False)
class Fleet:
    """Machines that are ready to load one endpoint."""

    caller: Caller
    machines: Sequence[Machine]
    endpoint: Endpoint
    tls: FleetTls | None
    options: SocketOptions
    cap: float

    @classmethod
    async def of(
        cls,
        client: Client,
        endpoint: Endpoint,
        count: int | None = None,
        *,
        tls: FleetTls | None = None,
        options: SocketOptions = DEFAULT_OPTIONS,
        cap: float = math.inf,
    ) -> Fleet:
        """Return a fleet of so many machines, or of all that there are.

        Raises:
            FleetError: there are not so many, or one has another version of techo.
        """
        caller = Caller(client)
        machines = await chosen(caller, count)
        await check_versions(caller, machines)
        return cls(caller, machines, endpoint, tls, options, cap)

    async def load(
        self,
        plan: LoadPlan,
        *,
        watch: Callable[[LoadReport], None] | None = None,
        stop: trio.Event | None = None,
    ) -> LoadReport:
        """Make a load of a plan by all machines; cancellation ends it on all of them at once.

        Raises:
            FleetError: it is above the cap, or a machine is there no more.
            ValueError: there are too few connections for all, or a machine refuses its share.
        """
        plan = plan.seeded()
        check_cap(plan, self.endpoint, self.machines, self.cap)
        await self._check_present()
        parts = divide(plan, len(self.machines))
        names = [each.name for each in self.machines]
        together = Together.of(str(self.endpoint), parts, names)
        agreement = Agreement(trio.Event() if stop is None else stop)
        run = uuid.uuid4().hex
        members = list[Member]()
        for number, (machine, share) in enumerate(
            zip(self.machines, together.shares, strict=True)
        ):
            order = Order(
                endpoint=self.endpoint, plan=share.plan, options=self.options, tls=self.tls
            )
            members.append(
                Member(
                    caller=self.caller,
                    machine=machine,
                    kind=carry_out_share,
                    run=f"{run}-{number}",
                    order=order.to_json(),
                    part=_Part(share, together, head_start(plan, number)),
                    agreement=agreement,
                )
            )
        ignore: Callable[[LoadReport], None] = lambda _: None  # noqa: E731  -- has its type
        return await _Run(self.caller, members, together, agreement, watch or ignore).run()

    def check_rate(self, rate: float) -> None:
        """Refuse what cannot be asked for later.

        Raises:
            FleetError: it is above the cap.
        """
        check_cap(LoadPlan(rate=rate), self.endpoint, self.machines, self.cap)

    @property
    def highest_rate(self) -> float | None:
        """Trips per second that the cap allows; None for any number."""
        capped = self.cap < math.inf and not is_own(self.endpoint, self.machines)
        return self.cap if capped else None

    async def _check_present(self) -> None:
        """Refuse to go on without one of those that were chosen."""
        present = await self.caller.addresses()
        for each in self.machines:
            if each.address not in present:
                raise FleetError(
                    f"the scheduler has lost machine {each.name}: start its worker again"
                )


@attrs.define(eq=False)
class _Part:
    """One machine's share of the load."""

    share: Share
    together: Together
    head_start: float
    """Seconds that it begins after the first."""

    @property
    def over(self) -> bool:
        return self.share.over

    def take(self, found: Mapping[str, Any]) -> None:
        if self.share.reached is None and found.get("reached") is not None:
            self.together.ready(self.share, reached=found["reached"])
        if found.get("report") is not None:
            self.together.take(self.share, LoadReport.from_json(found["report"]))

    def begin(self, at: float | None) -> Message:
        return {"do": "begin", "at": None if at is None else at + self.head_start}


@attrs.define(eq=False)
class _Run:
    """One load, from the first call to the last report."""

    caller: Caller
    members: Sequence[Member]
    together: Together
    agreement: Agreement
    watch: Callable[[LoadReport], None]

    async def run(self) -> LoadReport:
        try:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(call_the_roll, self.caller, self.members)
                nursery.start_soon(self._note_stop)
                nursery.start_soon(self.together.show, self.watch)
                async with trio.open_nursery() as running:
                    for member, share in zip(self.members, self.together.shares, strict=True):
                        running.start_soon(self._follow, member, share)
                    begun = await self.together.until_ready()
                    clocks = [each.clock for each in self.members]
                    self.agreement.decide(beginning(clocks, _LEAD) if begun else None)
                nursery.cancel_scope.cancel(reason="the load is over")
        except ExceptionGroup as group:
            raise first_of(group) from None
        return self.together.report()

    async def _note_stop(self) -> None:
        await self.agreement.stop.wait()
        self.together.stopped = True

    async def _follow(self, member: Member, share: Share) -> None:
        """Have a machine carry out its share.

        Raises:
            ValueError: it refuses what it is asked for; the text is why.
        """
        result = await member.follow()
        if "failure" in result:
            raise ValueError(result["failure"])
        if member.clock is not None:
            share.clock = member.clock.offset, member.clock.error
        if result["died"] is None:
            self.together.take(share, LoadReport.from_json(result["report"]), over=True)
        else:
            self.together.bury(share, result["died"])
