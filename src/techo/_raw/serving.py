"""Serving: sockets of kinds that trio opens no listeners for, bound to an address."""

from __future__ import annotations

import ipaddress
import socket

from techo._addresses import SOCKET_TYPES, Found
from techo._kernel import mptcp
from techo._log import warning
from techo.endpoint import Endpoint, Kind, host_of


def open_bound(endpoint: Endpoint, found: Found, *, shared: bool = False) -> socket.socket:
    """Open a socket for one address of an endpoint; without MPTCP here, it is TCP's.

    One that is `shared` gets its part of what comes to an address that others have, if they
    share it too: see SO_REUSEPORT of socket(7).

    Raises:
        ValueError: nobody can serve that.
        OSError: the system does not permit it, or the address can't be bound.
    """
    family, _, _, _, address = found
    protocol = endpoint.protocol or 0
    if endpoint.kind is Kind.ICMP:
        raise ValueError(f"cannot serve {endpoint}: the system answers ICMP; it is for ping")
    if endpoint.kind is Kind.IP and shared:
        raise ValueError(f"cannot share {endpoint}: everybody would answer every packet")
    if endpoint.kind is Kind.IP and ipaddress.ip_address(host_of(address)).is_unspecified:
        # It would hear what it sends to its own other addresses, as if that were asked.
        raise ValueError(f"cannot serve {endpoint}: name one address of this machine")
    if endpoint.kind is Kind.MPTCP and not (protocol := mptcp.protocol(family)):
        warning("no MPTCP here (net.mptcp.enabled): %s is served over plain TCP", endpoint)
    kind = socket.SOCK_RAW if endpoint.kind is Kind.IP else SOCKET_TYPES[endpoint.kind]
    sock = socket.socket(family, kind, protocol)
    try:
        if sock.type == socket.SOCK_STREAM:  # as trio does
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Or IPv4's wildcard would be in the way, at which nothing raw is served.
        if family == socket.AF_INET6 and kind != socket.SOCK_RAW:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
