"""Datagram sockets: replies leave from the address that the datagram was sent to."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeAlias

import attrs

from techo._addresses import network_of, peer_host
from techo._kernel.ip import receiver_of
from techo._kernel.options import LINUX

Sender: TypeAlias = Any
"""As the socket module has it: a tuple for UDP; for Unix text, bytes if abstract, or None."""

_IP_PKTINFO: Final = 8
"""Linux's number, see ip(7); Python's socket module has no name for it before 3.14."""

_IN_PKTINFO: Final = struct.Struct("=I4s4s")
"""Interface, our address, the address in the header."""

_IN6_PKTINFO: Final = struct.Struct("=16sI")
"""Our address (which may be a group's), interface: RFC 3542, 6."""

_GROUP: Final = 0xFF
"""The first byte of a multicast address (RFC 4291, 2.7)."""

_ANCILLARY: Final = 512
"""Bytes: room for what is asked for here, behind what the opener of an inherited socket may
have asked for, such as times."""

NAMELESS: Final = frozenset({None, "", b""})
"""What stands for the address of a Unix socket that has none."""


@attrs.frozen
class DatagramSocket:
    """How to serve one datagram socket; its opener closes it."""

    receive: Callable[[memoryview], tuple[int, Sender]]
    """Receives one datagram into a buffer: its size, its sender."""
    send: Callable[[memoryview | bytes, Sender], int]
    """Answers it, before the next is received; returns the bytes sent."""
    later: Callable[[Sender], Callable[[bytes | memoryview], int]]
    """Returns what answers the datagram received last, even when others have come since."""
    asked: Callable[[], Hashable]
    """Returns what tells apart to which of our addresses the datagram received last was sent;
    None where there is only one."""
    own: object
    """Our own port, path or address, which marks datagrams that come from ourselves."""
    by_port: bool
    """Whether senders are known by ports, and not by paths or addresses."""
    sock: socket.socket
    """The socket itself."""
    endpoint: str = ""
    """What the log calls it."""
    echoes: bool = True
    """Whether what it sends answers what has come, so that its return means a loop."""

    @classmethod
    def of(cls, sock: socket.socket) -> DatagramSocket:
        """Return how to serve a bound socket, which does not block from now on."""
        sock.setblocking(False)
        address = sock.getsockname()

        def later(peer: Sender) -> Callable[[bytes | memoryview], int]:
            return lambda data: sock.sendto(data, peer)

        def one(own: object, *, by_port: bool) -> DatagramSocket:
            receive = receiver_of(sock) if sock.type == socket.SOCK_RAW else sock.recvfrom_into
            return cls(receive, sock.sendto, later, _nothing, own, by_port, sock)

        if not isinstance(address, tuple):
            return one(address, by_port=False)
        if sock.type == socket.SOCK_RAW:
            return one((address[0], 0, *address[2:]), by_port=False)
        # Elsewhere a reply leaves from the address that the route has.
        if LINUX and ipaddress.ip_address(address[0]).is_unspecified:
            wildcard = _Wildcard(sock)
            way = wildcard.receive, wildcard.send, wildcard.later, wildcard.asked
            return cls(*way, address[1], by_port=True, sock=sock)
        return one(address[1], by_port=True)

    def source(self, peer: Sender) -> str:
        """Return what counts as one sender: a host whatever the port, or a path."""
        return network_of(peer_host(peer)) if isinstance(peer, tuple) else str(peer)


@attrs.define(eq=False)
class _Wildcard:
    """A UDP socket on all addresses: the kernel reports which one was used, for the reply."""

    sock: socket.socket
    _way_back: list[tuple[int, int, bytes]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self, buffer: memoryview) -> tuple[int, Sender]:
        size, ancillary, _, peer = self.sock.recvmsg_into([buffer], _ANCILLARY)
        self._way_back = [_answering(*each) for each in ancillary if _is_usable(*each)]
        return size, peer

    def send(self, data: memoryview | bytes, peer: Sender) -> int:
        return self.sock.sendmsg([data], self._way_back, 0, peer)

    def later(self, peer: Sender) -> Callable[[bytes | memoryview], int]:
        way_back = self._way_back
        return lambda data: self.sock.sendmsg([data], way_back, 0, peer)

    def asked(self) -> Hashable:
        return tuple(self._way_back)


def _nothing() -> None:
    """Return what tells apart the addresses of a socket that has one."""


def _is_usable(level: int, kind: int, data: bytes) -> bool:
    """Return whether this names an address that a reply can come from; a group's cannot."""
    if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
        return len(data) == _IN_PKTINFO.size
    wanted = (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    return wanted and len(data) == _IN6_PKTINFO.size and data[0] != _GROUP


def _answering(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """Return what is sent with a reply, from what was received with the datagram.

    The interface is left to the routes, as everywhere.
    """
    if level == socket.IPPROTO_IP:
        _, ours, _ = _IN_PKTINFO.unpack(data)
        return level, kind, _IN_PKTINFO.pack(0, ours, bytes(4))
    ours, _ = _IN6_PKTINFO.unpack(data)
    return level, kind, _IN6_PKTINFO.pack(ours, 0)
