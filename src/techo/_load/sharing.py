"""Sharing: a plan divided among processes or machines, so that together they carry it out."""

from __future__ import annotations

import attrs

from techo._load.plan import LoadPlan
from techo._probing.arrivals import Arrivals
from techo._probing.schedule import ROUNDING


def divide(plan: LoadPlan, shares: int) -> list[LoadPlan]:
    """Return plans that add up to one: connections, trips and the rate are divided.

    Each has as many connections as any other, or one more, and so with trips. The trips of an
    even rate are due as those of the whole would be, one share's after the other's: see
    `head_start`. Seeds are counted on, so that what comes at random does not come to all at the
    same moments. The first one probes for all.

    Raises:
        ValueError: there is not one connection, or not one trip, for each; or a probe would
            take for idle what the others still load.
    """
    for name in ("connections", "trips"):
        total = getattr(plan, name)
        if total is not None and total < shares:
            raise ValueError(
                f"{name} {total} cannot be divided among {shares}: give --{name} {shares} or "
                "more, or divide by less"
            )
    if plan.probe is not None and plan.trips is not None and plan.rate is None and shares > 1:
        raise ValueError(
            f"probe {plan.probe:g}: of {shares} shares of {plan.trips} trips, the first would "
            "probe while others still load, and call it idle; give a duration or a rate"
        )
    return [
        attrs.evolve(
            _later(plan, head_start(plan, number)),
            connections=_share(plan.connections, number, shares),
            trips=None if plan.trips is None else _share(plan.trips, number, shares),
            rate=None if plan.rate is None else plan.rate / shares,
            seed=None if plan.seed is None else plan.seed + number,
            probe=None if number else plan.probe,
            first=0.0 if plan.ramp is None else number / shares,
        )
        for number in range(shares)
    ]


def head_start(plan: LoadPlan, number: int) -> float:
    """Return how many seconds after the first a share begins, for a plan that was divided.

    Otherwise trips of all shares would be due at the same moments, in bursts: the server would
    see another load than that of one client at the same rate. Of a rate that rises, that is
    another time for each trip: see `divide`. At random, they are due at different moments
    anyway.
    """
    if plan.rate is None or plan.ramp is not None or plan.arrivals is Arrivals.POISSON:
        return 0.0
    return number / plan.rate


def _later(plan: LoadPlan, seconds: float) -> LoadPlan:
    """Return a plan that begins later, and ends its warm-up and itself at the same moment.

    Where not even one trip would be left, it has one behind that.
    """
    if not seconds or plan.rate is None:
        return plan
    warm_up = max(0.0, plan.warm_up - seconds)
    if plan.asked is None:
        return attrs.evolve(plan, warm_up=warm_up)
    left = plan.warm_up + plan.asked - seconds - warm_up
    return attrs.evolve(
        plan, warm_up=warm_up, seconds=left if left > ROUNDING else 1 / plan.rate
    )


def _share(total: int, number: int, shares: int) -> int:
    return total // shares + (number < total % shares)
