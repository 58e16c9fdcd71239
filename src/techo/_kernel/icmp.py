"""ICMP's echo (RFC 792, RFC 4443): how a message lies in a request and in its reply. No I/O."""

from __future__ import annotations

import secrets
import socket
import struct
from typing import Final

import attrs

from techo._kernel import ip
from techo._kernel.packets import Packet

PROTOCOLS: Final[dict[int, int]] = {
    socket.AF_INET: socket.IPPROTO_ICMP,
    socket.AF_INET6: socket.IPPROTO_ICMPV6,
}

LARGEST: Final[dict[int, int]] = {socket.AF_INET: 65_507, socket.AF_INET6: 65_527}
"""Bytes that a message may have: 65,535 less ICMP's header and, in IPv4, less its own."""

_HEADER: Final = struct.Struct("!BBHHH")
"""Type, code, checksum, whose it is, and its number."""

_REQUESTS: Final[dict[int, int]] = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLIES: Final[dict[int, int]] = {socket.AF_INET: 0, socket.AF_INET6: 129}

_IDS: Final = 2**16

# Of linux/icmp.h and linux/icmpv6.h, as the level of the first, which is that of raw sockets.
_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1
_ICMPV6_FILTER: Final = 1
_TYPES_OF_ICMP: Final = 32
_TYPES_OF_ICMPV6: Final = 256


def let_replies_in(sock: socket.socket) -> None:
    """Have a raw socket receive nothing but echo replies."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, all_but(_REPLIES[sock.family], _TYPES_OF_ICMP))
    else:
        all_others = all_but(_REPLIES[sock.family], _TYPES_OF_ICMPV6)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMPV6_FILTER, all_others)


def all_but(kind: int, types: int) -> bytes:
    """Return a filter of Linux that keeps out all types but one: a bit for each, in words."""
    kept_out = 2**types - 1 - 2**kind
    words = [kept_out >> shift & 0xFFFFFFFF for shift in range(0, types, 32)]
    return struct.pack(f"={len(words)}I", *words)


@attrs.define(eq=False)
class EchoFormat:
    """Messages in ICMP's echo requests and replies, over one socket."""

    family: int
    raw: bool
    """Whether the socket is raw, and hears the replies to everybody; on others, the system sees
    to that, and to the checksum."""
    identifier: int = attrs.field(factory=lambda: secrets.randbelow(_IDS))
    """What is ours is known by, on a raw socket; on others the system has its own."""
    _sent: int = 0

    def framed(self, data: bytes) -> bytes:
        """Return the request that carries `data`, the next one."""
        self._sent = (self._sent + 1) % _IDS
        kind, fields = _REQUESTS[self.family], (self.identifier, self._sent)
        summed = 0
        if self.family == socket.AF_INET:  # ICMPv6's is over addresses, too: the system knows
            summed = ip.checksum(_HEADER.pack(kind, 0, 0, *fields) + data)
        return _HEADER.pack(kind, 0, summed, *fields) + data

    def payload_of(self, packet: Packet) -> bytes | None:
        """Return the message in what was received; None if it is no reply to us, or harmed."""
        data, bare = packet.data, self.raw and self.family == socket.AF_INET
        if bare:
            data = ip.payload_of(data)
        if len(data) < _HEADER.size or (bare and not ip.is_sound(data)):
            return None
        kind, code, _, identifier, _ = _HEADER.unpack_from(data)
        if kind != _REPLIES[self.family] or code:
            return None
        if self.raw and identifier != self.identifier:
            return None
        return data[_HEADER.size :]
