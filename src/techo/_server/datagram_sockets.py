"""Datagram sockets: receiving, answering from the address that was hit, and who is unwanted."""

from __future__ import annotations

import ipaddress
import platform
import socket
import struct
from collections.abc import Callable, Container, Sequence
from typing import Any, Final, TypeAlias

import attrs

from techo._server.guard import Drop
from techo._server.peer import unmapped

Address: TypeAlias = Any
"""As the socket module has it: a tuple for UDP; for Unix text, bytes if abstract, or None."""

Way: TypeAlias = Sequence[tuple[int, int, bytes]]
"""Ancillary data to send an answer with, so that it leaves the way the question came."""

Send: TypeAlias = Callable[[memoryview, Address, Way], int]

_LINUX: Final = platform.system() == "Linux"

_IP_PKTINFO: Final = 8
"""Linux's number, see ip(7); Python's socket module has no name for it before 3.14."""

_IN_PKTINFO: Final = struct.Struct("=I4s4s")
"""Interface, our address, the address in the header."""

_IN6_PKTINFO: Final = struct.Struct("=16sI")
"""Our address (which may be a group's), interface: RFC 3542, 6."""

_GROUP: Final = 0xFF
"""The first byte of a multicast address (RFC 4291, 2.7)."""

_ANCILLARY: Final = socket.CMSG_SPACE(_IN6_PKTINFO.size)
"""Bytes: room for the larger of the two."""


@attrs.define(eq=False)
class UdpSocket:
    """A UDP socket that is bound to one address, from which all that it sends leaves."""

    sock: socket.socket

    def own_address(self) -> object:
        """Give what a datagram's sender is not to be: a port, on whatever host."""
        return self.sock.getsockname()[1]

    def receive(self, buffer: memoryview) -> tuple[int, Address, Way]:
        """Receive one datagram: its size, its sender, and the way back."""
        size, peer = self.sock.recvfrom_into(buffer)
        return size, peer, ()

    def send(self, data: memoryview, peer: Address, _way: Way) -> int:
        """Send one datagram; give its size."""
        return self.sock.sendto(data, peer)

    def unwanted(
        self, peer: Address, own: Container[object], guarded: Container[object]
    ) -> Drop | None:
        """Say why a sender should not be answered, if it should not."""
        if peer[1] in own:
            return Drop.LOOP
        return Drop.GUARDED if peer[1] in guarded else None

    def source(self, peer: Address) -> str:
        """Give what counts as one sender: an address, whatever the port."""
        return unmapped(peer[0])


@attrs.define(eq=False)
class WildcardUdpSocket(UdpSocket):
    """A UDP socket on all addresses, which the kernel tells and is told which one is meant."""

    def __attrs_post_init__(self) -> None:
        if self.sock.family == socket.AF_INET6:
            self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self.sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self, buffer: memoryview) -> tuple[int, Address, Way]:
        """Receive one datagram: its size, its sender, and the address that was hit."""
        size, ancillary, _, peer = self.sock.recvmsg_into([buffer], _ANCILLARY)
        return size, peer, [_answering(*each) for each in ancillary if _is_usable(*each)]

    def send(self, data: memoryview, peer: Address, way: Way) -> int:
        """Send one datagram from there; give its size."""
        return self.sock.sendmsg([data], way, 0, peer)


@attrs.define(eq=False)
class UnixDatagramSocket(UdpSocket):
    """A Unix socket for datagrams, whose peers may have no address."""

    def own_address(self) -> object:
        """Give what a datagram's sender is not to be: our own path or abstract name."""
        return self.sock.getsockname()

    def unwanted(
        self, peer: Address, own: Container[object], _guarded: Container[object]
    ) -> Drop | None:
        """Say why a sender should not or cannot be answered, if so."""
        if not peer:
            return Drop.UNBOUND
        return Drop.LOOP if peer in own else None

    def source(self, peer: Address) -> str:
        """Give what counts as one sender: the path or abstract name."""
        return str(peer)


def datagram_socket(sock: socket.socket) -> UdpSocket:
    """Make the kind of socket that `sock` is; it stays the caller's to close."""
    sock.setblocking(False)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return UnixDatagramSocket(sock)
    wildcard = ipaddress.ip_address(sock.getsockname()[0]).is_unspecified
    # Elsewhere an answer leaves from whatever address the route has.
    return WildcardUdpSocket(sock) if wildcard and _LINUX else UdpSocket(sock)


def _is_usable(level: int, _kind: int, data: bytes) -> bool:
    # An answer to a group cannot come from the group's address.
    return level == socket.IPPROTO_IP or data[0] != _GROUP


def _answering(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """Turn what was said of a datagram into what is to be said of its answer.

    The interface is left to the routes, as everywhere.
    """
    if level == socket.IPPROTO_IP:
        _, ours, _ = _IN_PKTINFO.unpack(data)
        return level, kind, _IN_PKTINFO.pack(0, ours, bytes(4))
    ours, _ = _IN6_PKTINFO.unpack(data)
    return level, kind, _IN6_PKTINFO.pack(ours, 0)
