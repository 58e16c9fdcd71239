"""The cap: how much a fleet may send unless the options say that more is meant."""

from __future__ import annotations

import contextlib
import ipaddress
import math
from collections.abc import Sequence
from typing import Final

from techo._fleet.machines import FleetError, Machine
from techo._load.plan import LoadPlan
from techo.endpoint import Endpoint

CAP: Final = 5000.0
"""Trips per second in all."""


def check_cap(
    plan: LoadPlan, endpoint: Endpoint, machines: Sequence[Machine], cap: float
) -> None:
    """Refuse a load that is above the cap, unless a machine of the fleet is what it loads.

    Raises:
        FleetError: it has the remedy.
    """
    if is_own(endpoint, machines):
        return
    if plan.rate is None and cap < math.inf:
        raise FleetError(
            f"without a rate nothing bounds what {len(machines)} machines send to {endpoint}: "
            f"give --rate, at most {cap:,.10g}, or --cap off"
        )
    if plan.rate is not None and plan.rate > cap:
        raise FleetError(
            f"{plan.rate:,.10g} trips a second to {endpoint} are above the cap of "
            f"{cap:,.10g}: if that is meant, give --cap {plan.rate:.10g}"
        )


def is_own(endpoint: Endpoint, machines: Sequence[Machine]) -> bool:
    """Return whether an endpoint is a machine of the fleet, or on each of them.

    A name is none, but for localhost: it may lead elsewhere from there.
    """
    if not endpoint.host:
        return True  # a path
    if is_loopback(endpoint.host):
        return True
    return _address(endpoint.host) in {_address(each.host) for each in machines} - {None}


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself, whichever that is."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host)
    return None
