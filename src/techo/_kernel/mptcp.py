"""Multipath TCP (RFC 8684): whether the kernel has it, and what a connection has become."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Final, Protocol

import attrs

_IPPROTO_MPTCP: Final[int | None] = getattr(socket, "IPPROTO_MPTCP", None)

# Of linux/socket.h and linux/mptcp.h.
_SOL_MPTCP: Final = 284
_MPTCP_INFO: Final = 1
_LONGEST: Final = 256
"""Bytes of struct mptcp_info: 96 in Linux 6.18, and it grows."""
_FURTHER: Final = 0
"""Where it has the number of subflows, the first left out."""
_ALL: Final = 80
"""Where it has the number of all of them, in newer kernels."""

_LACKING: Final = frozenset(
    {
        errno.ENOPROTOOPT,  # net.mptcp.enabled is 0
        errno.EPROTONOSUPPORT,  # the kernel was built without
        errno.EINVAL,  # it is older than MPTCP
    }
)


class Socket(Protocol):
    """What is asked of a socket, of the standard library's or trio's."""

    @property
    def proto(self) -> int:
        """The protocol that it was opened with."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return an option."""


def protocol(family: int) -> int:
    """Return what to open a stream socket of a family with: MPTCP, or 0 where there is none.

    Raises:
        OSError: no socket can be opened now.
    """
    if _IPPROTO_MPTCP is None:
        return 0
    try:
        socket.socket(family, socket.SOCK_STREAM, _IPPROTO_MPTCP).close()
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        return 0
    return _IPPROTO_MPTCP


def is_mptcp(sock: Socket) -> bool:
    """Return whether a socket was opened, or accepted, as MPTCP's."""
    return _IPPROTO_MPTCP is not None and sock.proto == _IPPROTO_MPTCP


def subflows_of(sock: Socket) -> int | None:
    """Return over how many subflows a connection goes now: TCP connections, each over a path.

    None is plain TCP: one of the ends has no MPTCP, or something between takes it away.
    """
    if not is_mptcp(sock):
        return None
    try:
        return subflows_in(sock.getsockopt(_SOL_MPTCP, _MPTCP_INFO, _LONGEST))
    except OSError as error:  # which is how the kernel reports that it has fallen back
        return 0 if error.errno == errno.EBADF else None


def facts_of(sock: Socket) -> dict[str, str | int]:
    """Return what a log says of a connection that was accepted; nothing if it is TCP's."""
    if not is_mptcp(sock):
        return {}
    subflows = subflows_of(sock)
    if subflows is None:
        return {"protocol": "tcp"}
    return {"protocol": "mptcp", "subflows": subflows}


def subflows_in(info: bytes) -> int:
    """Return the same from a struct mptcp_info."""
    return info[_ALL] if len(info) > _ALL else info[_FURTHER] + 1


@attrs.frozen
class MptcpPaths:
    """What connections have become that were to be MPTCP."""

    connections: int
    """How many speak it."""
    plain: int
    """How many are plain TCP."""
    subflows: int
    """The most that one of them was seen to have."""

    @classmethod
    def of(cls, each: Iterable[int | None]) -> MptcpPaths:
        """Return what connections have become that have so many subflows; None is plain TCP."""
        found = [*each]
        speaking = [subflows for subflows in found if subflows is not None]
        return cls(len(speaking), len(found) - len(speaking), max(speaking, default=0))

    def __add__(self, other: MptcpPaths) -> MptcpPaths:
        return MptcpPaths(
            self.connections + other.connections,
            self.plain + other.plain,
            max(self.subflows, other.subflows),
        )
