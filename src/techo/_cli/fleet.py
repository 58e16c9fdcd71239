"""Fleet: the options of commands that many machines can carry out, and the fleet they name."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

from techo._cli.options import Group, Option, flag, option, setter, switch
from techo._cli.packets import fitting_options
from techo._cli.readers import NUMBER, Form, checked
from techo._cli.tls import wanted
from techo._quantities import read_rate
from techo._validation import TRIPS_PER_SECOND

if TYPE_CHECKING:
    import trio

    from techo._fleet.load import Fleet
    from techo._fleet.scheduler import Scheduler
    from techo._load.plan import LoadPlan
    from techo._load.report import LoadReport
    from techo._mesh.report import Mesh


def _read_scheduler(text: str) -> Scheduler:
    from techo._fleet.scheduler import Scheduler

    return Scheduler.parse(text)


def _by_fleet(otherwise: str) -> Option:
    return option(
        "--fleet",
        Form("SCHEDULER", _read_scheduler),
        "have the workers of this Dask scheduler do it, tcp://HOST:PORT or tls://HOST:PORT; "
        "needs the extra fleet. See techo help fleet",
        shown=otherwise,
    )


_MACHINES: Final = option(
    "--machines", NUMBER, "how many of its workers: the first by address, as text", shown="all"
)
_CAP: Final = option(
    "--cap",
    Form("RATE", checked(read_rate, TRIPS_PER_SECOND.or_off(math.inf))),
    "trips a second in all; above it, only machines of the fleet are loaded",
    default=5000.0,
    shown="5000/s",
)
_INSECURE: Final = switch(
    "--insecure",
    "accept a tcp:// scheduler on another machine: who reaches it, or is on the way, runs code "
    "on every machine",
)

FLEET: Final = Group(
    "Many machines", (_by_fleet("this machine does it"), _MACHINES, _CAP, _INSECURE)
)
"""The options; `fleet_of` makes what they describe."""

MESHED: Final = Group("Many machines", (_by_fleet("none; it is needed"), _MACHINES, _INSECURE))
"""Those of machines that only probe each other, which takes no cap."""

_ONLY: Final = ("machines", "cap", "insecure")
"""Options that mean nothing without --fleet."""


def check_fleet(options: argparse.Namespace) -> None:
    """Check before a measurement whether there can be a fleet.

    Raises:
        ValueError: an option does not apply, or something is not installed.
    """
    if options.fleet is None:
        for name in _ONLY:
            if name in options.given:
                raise ValueError(f"{flag(name)} is for a fleet: give --fleet SCHEDULER, too")
        return
    if getattr(options, "processes", None) is not None:
        raise ValueError(
            f"{setter(options, 'fleet')} and {setter(options, 'processes')}: give one of them; "
            "a machine can have several workers"
        )
    from techo._fleet.machines import FleetError
    from techo._fleet.scheduler import check_installed

    try:
        options.fleet.check_safe(insecure=options.insecure)
        check_installed()
    except FleetError as error:
        raise ValueError(str(error)) from None


@contextlib.asynccontextmanager
async def fleet_of(options: argparse.Namespace) -> AsyncIterator[Fleet]:
    """Return the fleet that the options describe, for a block.

    Raises:
        ValueError: there is none, or not so many machines, or one has another version.
    """
    from techo._fleet.load import Fleet
    from techo._fleet.machines import FleetError
    from techo._fleet.order import FleetTls
    from techo._fleet.scheduler import connected
    from techo.endpoint import check_connectable

    endpoint = check_connectable(options.endpoint, None, None)
    tls = None
    if wanted(options, [endpoint]):
        tls = FleetTls(
            ca=options.tls_ca,
            insecure=options.tls_insecure,
            server_name=options.tls_server_name,
            cert=options.tls_cert,
            key=options.tls_key,
        )
    packets = fitting_options(options, options.connections)
    try:
        async with connected(options.fleet) as client:
            yield await Fleet.of(
                client, endpoint, options.machines, tls=tls, options=packets, cap=options.cap
            )
    except FleetError as error:
        raise ValueError(str(error)) from None


async def load_by_fleet(
    options: argparse.Namespace,
    plan: LoadPlan,
    watch: Callable[[LoadReport], None],
    stop: trio.Event,
) -> LoadReport:
    """Make a load by the fleet that the options describe.

    Raises:
        ValueError: see `fleet_of`; or it is above the cap, or a machine refuses it.
    """
    async with fleet_of(options) as fleet:
        return await fleet.load(plan, watch=watch, stop=stop)


async def mesh_by_fleet(
    options: argparse.Namespace, watch: Callable[[Mesh], None] | None, stop: trio.Event
) -> Mesh:
    """Have the machines that the options describe probe each other.

    Raises:
        ValueError: there is no fleet, or not so many machines, or one has another version.
    """
    from techo._fleet.machines import FleetError
    from techo._fleet.mesh import mesh
    from techo._fleet.scheduler import connected

    names = ("machines", "count", "interval", "timeout", "size", "in_turns")
    try:
        async with connected(options.fleet) as client:
            given = {name: getattr(options, name) for name in names}
            return await mesh(client, **given, watch=watch, stop=stop)
    except FleetError as error:
        raise ValueError(str(error)) from None
