"""Sharing: a plan divided among processes or machines, so that together they carry it out."""

from __future__ import annotations

import attrs

from techo._load.plan import LoadPlan


def divide(plan: LoadPlan, shares: int) -> list[LoadPlan]:
    """Return plans that add up to one: connections, trips and the rate are divided.

    Each has as many connections as any other, or one more, and so with trips. The same holds
    for the rate, if it is whole and there is enough of it; otherwise all have the same. Seeds
    are counted on, so that what comes at random does not come to all at the same moments, and
    in a ramp the trips of one share are due between those of the others.
    The first one probes for all.

    Raises:
        ValueError: there is not one connection, or not one trip, for each.
    """
    for name in ("connections", "trips"):
        total = getattr(plan, name)
        if total is not None and total < shares:
            raise ValueError(
                f"{name} {total} cannot be divided among {shares}: give --{name} {shares} or "
                "more, or divide by less"
            )
    return [
        attrs.evolve(
            plan,
            connections=_share(plan.connections, number, shares),
            trips=None if plan.trips is None else _share(plan.trips, number, shares),
            rate=None if plan.rate is None else _share_of_rate(plan.rate, number, shares),
            seed=None if plan.seed is None else plan.seed + number,
            probe=None if number else plan.probe,
            first=0.0 if plan.ramp is None else number / shares,
        )
        for number in range(shares)
    ]


def head_start(plan: LoadPlan, number: int) -> float:
    """Return how many seconds after the others a share begins, for a plan that was divided.

    Otherwise trips of all shares would be due at the same moments, in bursts: the server would
    see another load than that of one client at the same rate.
    """
    if plan.rate is None or plan.ramp is not None:
        return 0.0  # while a rate rises, that is another time for each trip: see `divide`
    return number / plan.rate


def _share(total: int, number: int, shares: int) -> int:
    return total // shares + (number < total % shares)


def _share_of_rate(rate: float, number: int, shares: int) -> float:
    whole = int(rate)
    return _share(whole, number, shares) if whole == rate and whole >= shares else rate / shares
