"""Packets: what was received, with what the kernel says of it."""

from __future__ import annotations

import socket
import struct
from typing import Any, Final, Protocol

import attrs

from techo._kernel import stamps

# Of linux/in.h and linux/in6.h, without those that Python has no name for on every system.
_IP_TOS: Final = 1
_IP_TTL: Final = 2
_IP_RECVTTL: Final = 12
_IP_RECVTOS: Final = 13
_IPV6_RECVHOPLIMIT: Final = 51
_IPV6_HOPLIMIT: Final = 52
_IPV6_RECVTCLASS: Final = 66
_IPV6_TCLASS: Final = 67

_ASKED: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, (_IP_RECVTTL, _IP_RECVTOS)),
    socket.AF_INET6: (socket.IPPROTO_IPV6, (_IPV6_RECVHOPLIMIT, _IPV6_RECVTCLASS)),
}

_TTL: Final = {(socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT)}
_TOS: Final = {(socket.IPPROTO_IP, _IP_TOS), (socket.IPPROTO_IPV6, _IPV6_TCLASS)}

_INITIAL: Final = (64, 128, 255)
_FARTHEST: Final = 32

_DONTWAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)

_ROOM: Final = 512
"""Bytes for all that the kernel says of one packet: a stamp takes 64, a number 24."""


@attrs.frozen
class Packet:
    """One message as it was received, or over TCP as many bytes as were asked for."""

    data: bytes
    received_ns: int | None = None
    """When the kernel received it, or its last byte, in nanoseconds of Unix time."""
    ttl: int | None = None
    """The hops that it had left: IPv4's TTL, IPv6's hop limit."""
    tos: int | None = None
    """IPv4's TOS or IPv6's traffic class: DSCP times four, and ECN."""
    address: Any = None
    """Where it came from, as the system has it; None over TCP."""
    truncated: bool = False
    """Whether there was more of the message, which is lost."""

    @property
    def dscp(self) -> int | None:
        """What kind of service it was sent with (RFC 2474)."""
        return None if self.tos is None else self.tos >> 2

    @property
    def ecn(self) -> int | None:
        """Whether its sender heeds congestion, and whether it met any (RFC 3168)."""
        return None if self.tos is None else self.tos & 3


class PacketFormat(Protocol):
    """How a message lies in a packet, where a socket is given more than messages."""

    def framed(self, data: bytes) -> bytes:
        """Return what a socket is given to send `data`; called once for each."""

    def payload_of(self, packet: Packet) -> bytes | None:
        """Return the message in what a socket has received; None if it is not for this end."""


def hops_of(ttl: int) -> int | None:
    """Return how many routers a packet has passed; None if that can't be told.

    Systems begin with 64, 128 or 255, and hardly any way has more than 32 hops.
    """
    hops = min((initial - ttl for initial in _INITIAL if initial >= ttl), default=_FARTHEST + 1)
    return hops if hops <= _FARTHEST else None


def ask_for_headers(sock: socket.socket) -> None:
    """Have the TTL, DSCP and ECN of what `sock` receives reported, where it has such."""
    level, options = _ASKED.get(sock.family, (0, ()))
    for option in options:
        sock.setsockopt(level, option, 1)


def receive_packet(sock: socket.socket, size: int) -> Packet:
    """Receive a message of up to `size` bytes, or up to `size` bytes of a stream.

    Over a stream, the stamp is that of the last byte returned, and no bytes are its end.

    Raises:
        BlockingIOError: nothing has arrived.
        OSError: the connection broke, or an earlier message was refused.
    """
    data, ancillary, flags, address = sock.recvmsg(size, _ROOM, _DONTWAIT)
    return parse(data, ancillary, flags, address)


def parse(
    data: bytes, ancillary: list[tuple[int, int, bytes]], flags: int = 0, address: Any = None
) -> Packet:
    """Return the packet that `socket.recvmsg` returned."""
    ttl = tos = None
    for level, kind, value in ancillary:
        if (level, kind) in _TTL:
            ttl = number_in(value)
        elif (level, kind) in _TOS:
            tos = number_in(value)
    stamp = stamps.stamp_in(ancillary)
    return Packet(data, stamp, ttl, tos, address, bool(flags & socket.MSG_TRUNC))


def number_in(value: bytes) -> int:
    """Return a number that the kernel says, in one byte (TOS) or in a C int."""
    return value[0] if len(value) == 1 else int(struct.unpack_from("i", value)[0])
