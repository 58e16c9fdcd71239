"""The error queue: stamps of sending, and errors that came from the network (recvmsg(2)).

While anything is in it, epoll reports an error of the socket. So whoever waits for a socket
that is asked for stamps or errors drains its queue first, and judges the socket only then.
"""

from __future__ import annotations

import enum
import socket
import struct
from typing import Final, TypeAlias

import attrs

from techo._kernel import stamps
from techo.endpoint import host_of

RECVERR: Final = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),  # linux/in.h
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),  # linux/in6.h
}
"""The option that asks for errors, by family; what is said of each has the same numbers."""

_EXTENDED_ERR: Final = struct.Struct("=IBBBxII")
"""sock_extended_err of linux/errqueue.h; the address of the offender follows."""
_TIMESTAMPING: Final = 4
"""Its origin if it is the stamp of something that was sent."""

_SIZE: Final = 2**16
"""Bytes of the message that an error is about, of which it may quote all."""
_ROOM: Final = 512
"""Bytes for all that is said of one entry: some 130, and as much again for what options add."""

_FLAGS: Final = getattr(socket, "MSG_ERRQUEUE", 0) | getattr(socket, "MSG_DONTWAIT", 0)

_MOST: Final = 1_000
"""Entries that are read at once: a flood of errors should not hold up the run."""


class Origin(enum.IntEnum):
    """Where an error came from."""

    LOCAL = 1
    """This machine: a message is larger than the way's MTU, as far as it is known here."""
    ICMP = 2
    ICMP6 = 3


_ORIGINS: Final = frozenset(Origin)


@attrs.frozen
class SendStamp:
    """Something was sent."""

    number: int
    """Which datagram from 0 on or, over TCP, the offset of its last byte: see `stamps`."""
    sent_ns: int
    """When, in nanoseconds of Unix time."""


@attrs.frozen
class NetworkError:
    """Something that was sent did not arrive."""

    errno: int
    """The error that a system call would have raised because of it."""
    origin: Origin
    type: int
    """Of the ICMP message, as the next."""
    code: int
    info: int
    """The MTU that would fit, if that is what was wrong (EMSGSIZE)."""
    offender: str | None
    """The address of the machine that says so; None if that is this one, or not known."""
    data: bytes
    """What it is about: the payload of a datagram, as far as the message quotes it."""


Entry: TypeAlias = SendStamp | NetworkError


def read_errors(sock: socket.socket) -> list[Entry]:
    """Return all that is in the error queue of `sock`, which is then empty.

    Reading an error also takes it from what the next system call raises.
    """
    entries: list[Entry] = []
    for _ in range(_MOST):
        try:
            data, ancillary, _, _ = sock.recvmsg(_SIZE, _ROOM, _FLAGS)
        except BlockingIOError:
            break
        entry = parse(data, ancillary)
        if entry is not None:
            entries.append(entry)
    return entries


def parse(data: bytes, ancillary: list[tuple[int, int, bytes]]) -> Entry | None:
    """Return the entry that `socket.recvmsg` returned; None for what nobody here asks for."""
    stamp = stamps.stamp_in(ancillary)
    for level, kind, value in ancillary:
        if (level, kind) not in RECVERR.values():
            continue
        number, origin, icmp_type, code, info, identity = _EXTENDED_ERR.unpack_from(value)
        if origin == _TIMESTAMPING:
            return None if stamp is None else SendStamp(identity, stamp)
        if origin in _ORIGINS:
            offender = _address_in(value[_EXTENDED_ERR.size :])
            return NetworkError(number, Origin(origin), icmp_type, code, info, offender, data)
    return None


def _address_in(name: bytes) -> str | None:
    """Return the address in a sockaddr, without its port."""
    family = struct.unpack_from("=H", name)[0] if len(name) > 1 else socket.AF_UNSPEC
    if family == socket.AF_INET:
        return socket.inet_ntop(family, name[4:8])
    if family != socket.AF_INET6:
        return None
    scope = struct.unpack_from("=I", name, 24)[0]
    return host_of((socket.inet_ntop(family, name[8:24]), 0, 0, scope))
