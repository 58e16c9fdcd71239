"""Serving: sockets of kinds that trio opens no listeners for, bound to an address."""

from __future__ import annotations

import socket

from techo._addresses import SOCKET_TYPES, Found
from techo._kernel import mptcp
from techo._log import warning
from techo.endpoint import Endpoint, Kind


def open_bound(endpoint: Endpoint, found: Found, *, shared: bool = False) -> socket.socket:
    """Open a socket for one address of an endpoint; without MPTCP here, it is TCP's.

    One that is `shared` gets its part of what comes to an address that others have, if they
    share it too: see SO_REUSEPORT of socket(7).

    Raises:
        OSError: the system does not permit it, or the address can't be bound.
    """
    family, _, _, _, address = found
    protocol = 0
    if endpoint.kind is Kind.MPTCP and not (protocol := mptcp.protocol(family)):
        warning("no MPTCP here (net.mptcp.enabled): %s is served over plain TCP", endpoint)
    sock = socket.socket(family, SOCKET_TYPES[endpoint.kind], protocol)
    try:
        if sock.type == socket.SOCK_STREAM:  # as trio does
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # or IPv4's wildcard would be in the way
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock
