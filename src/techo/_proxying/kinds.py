"""Kinds: from which endpoint a proxy can pass on to which, and what would be a circle."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from techo._faults.values import DATAGRAMS
from techo.endpoint import EVERY_INTERFACE, SECURE, Endpoint, Kind

PASSED: Final = frozenset({Kind.UDP, Kind.UNIXGRAM})
"""Kinds of datagrams that are passed on, to each other, too."""


def untouched(place: object) -> str:
    """Return why nothing can listen at a place of TLS, and what would be right."""
    return f"a proxy passes TLS through untouched: listen at tcp instead of {place}"


def check_passable(transport: str, place: object, target: object, passed: str) -> None:
    """Refuse a place to listen at from which nothing can be passed on to a target.

    `transport` is the kind of the place, and `passed` that of the target.

    Raises:
        ValueError: as said; the text says what would be right.
    """
    if transport in SECURE:
        raise ValueError(untouched(place))
    way = f"a proxy from {place} to {target}"
    datagrams = {transport, passed} & DATAGRAMS
    if datagrams and not {transport, passed} <= PASSED:
        raise ValueError(
            f"{way} would change what is sent: where one is of datagrams, both are to be "
            f"{Kind.UDP} or {Kind.UNIXGRAM}"
        )
    if Kind.UNIXPACKET in (transport, passed) and transport != passed:
        raise ValueError(
            f"{way} would not keep messages apart: both are to be {Kind.UNIXPACKET}, or neither"
        )
    if isinstance(place, Endpoint) and isinstance(target, Endpoint) and _is_same(place, target):
        raise ValueError(f"{way} would connect to itself for ever: name another target")


def _is_same(place: Endpoint, target: Endpoint) -> bool:
    """Return whether a target is what listens at a place of the same nature."""
    if place.path or target.path:
        return place.path == target.path
    if not place.port or place.port != target.port:
        return False
    hosts, theirs = _hosts(place.host), _hosts(target.host)
    everywhere = any(each in (EVERY_INTERFACE, "0.0.0.0", "::") for each in hosts)  # noqa: S104  -- it is compared
    return any(map(_is_ours, theirs)) if everywhere else bool(hosts & theirs)


def _hosts(host: str) -> frozenset[str]:
    if host.lower().rstrip(".") == "localhost":
        return frozenset({"127.0.0.1", "::1"})
    return frozenset({host.lower()})


def _is_ours(host: str) -> bool:
    """Return whether this is an address of this machine; names are not looked up."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return False
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6) as probe:  # noqa: PLR2004  -- of IP
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
