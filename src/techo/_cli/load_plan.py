"""The plan of a load, as the options of the command describe it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from techo._cli.options import setter
from techo._probing.arrivals import Arrivals

if TYPE_CHECKING:
    from techo._load.plan import LoadPlan


def settle(options: argparse.Namespace) -> None:
    """Leave one of the options that say how long it takes, if only one was meant.

    Raises:
        ValueError: both are given, or one that makes no sense without another.
    """
    if options.arrivals == Arrivals.POISSON and options.rate is None:
        name = setter(options, "arrivals")
        raise ValueError(f"{name} poisson: give --rate, too, which is their mean")
    if options.arrivals != Arrivals.POISSON and options.seed is not None:
        name = setter(options, "seed")
        raise ValueError(f"{name} {options.seed}: give --arrivals poisson, which alone has one")
    if options.duration is None or options.trips is None:
        return
    # Of the two, one may come from the environment, and then the other was meant.
    left_out = {"duration", "trips"}.difference(options.given)
    if len(left_out) != 1:
        both = " and ".join(setter(options, name) for name in ("duration", "trips"))
        raise ValueError(f"{both}: give one of them")
    setattr(options, left_out.pop(), None)


def plan_of(options: argparse.Namespace) -> LoadPlan:
    """Return the plan that settled options describe.

    Raises:
        ValueError: the text says what makes no sense.
    """
    from techo._load.plan import LoadPlan

    return LoadPlan(
        connections=options.connections,
        seconds=options.duration,
        trips=options.trips,
        rate=options.rate,
        size=options.size,
        pipeline=options.pipeline,
        warm_up=options.warm_up,
        timeout=options.timeout,
        reconnect_every=options.reconnect_every,
        arrivals=options.arrivals,
        seed=options.seed,
        ramp=options.ramp,
        probe=options.probe,
    )
