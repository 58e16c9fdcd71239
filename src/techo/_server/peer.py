"""Peers: who is at the other end of a stream."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Final

import attrs
import trio

from techo._packets import PacketStream

_CREDENTIALS: Final = struct.Struct("=iII")
"""Process, user and group, as they were when it connected: SO_PEERCRED of unix(7)."""

UNKNOWN = "unknown"
"""A peer that had reset the connection before anybody could ask for its address."""


@attrs.frozen
class Peer:
    """The other end of a stream."""

    name: str
    """What to call it in a log: ``ADDRESS:PORT``, the process behind a Unix socket, or what
    kind of stream it is."""
    host: str | None = None
    """The address to count its connections by; None where there is none."""

    @classmethod
    def of(cls, stream: trio.abc.Stream) -> Peer:
        """Find out who is at the other end, through TLS if need be."""
        while isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        if not isinstance(stream, trio.SocketStream | PacketStream):
            return cls(type(stream).__name__)
        try:
            address = stream.socket.getpeername()
        except OSError:
            return cls(UNKNOWN)
        if not isinstance(address, tuple):
            return cls(_unix_name(stream.socket))
        host = unmapped(address[0])
        return cls(f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}", host)


def _unix_name(sock: trio.socket.SocketType) -> str:
    """Name the process that connected, since Unix peers seldom have an address."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "unix"
    process, user, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return f"unix:pid={process},uid={user}"


def unmapped(host: str) -> str:
    """Undo the form that a dual-stack socket gives to an IPv4 address (RFC 4291, 2.5.5.2)."""
    # A dot and a colon together: worth a look, and no cost to all the others.
    if ":" not in host or "." not in host:
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)
