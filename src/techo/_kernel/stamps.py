"""Stamps: when the kernel sent and received, by the wall clock (SO_TIMESTAMPING).

A stamp of receiving comes with what was received; one of sending lies in the error queue, with
the number of what was sent: of a datagram from 0 on, over TCP of its last byte, from 0 on. Both
count from `switch_on`, in 32 bits.
"""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Iterable
from typing import Final, TypeAlias

AVAILABLE: Final = hasattr(socket, "MSG_ERRQUEUE")
"""Whether this system may have stamps (Linux)."""

_SO_TIMESTAMPING: Final = 37
"""Of asm-generic/socket.h; Python has no names for what this file asks for."""

# SOF_TIMESTAMPING_... of linux/net_tstamp.h.
_RX_SOFTWARE: Final = 1 << 3
_SOFTWARE: Final = 1 << 4
_OPT_ID: Final = 1 << 7
_OPT_TSONLY: Final = 1 << 11
_OPT_ID_TCP: Final = 1 << 16

_WANTED: Final = _RX_SOFTWARE | _SOFTWARE | _OPT_ID | _OPT_TSONLY
"""Without what was sent (TSONLY), which only some users may see (tstamp_allow_data)."""


class Sending(enum.Enum):
    """Which moment of sending is stamped."""

    QUEUED = 1 << 8  # TX_SCHED
    """When it comes to the queue of this machine's interface."""
    LEFT = 1 << 1  # TX_SOFTWARE
    """When it leaves that."""


IDS: Final = 2**32
"""Numbers of what was sent; then they begin again."""

_ROOM: Final = 512
"""Bytes for what comes beside a datagram."""

_IPPROTO_MPTCP: Final = 262
_SIOCOUTQ: Final = 0x5411

Ancillary: TypeAlias = Iterable[tuple[int, int, bytes]]
"""What `socket.recvmsg` returns beside the data."""


def switch_on(sock: socket.socket, *, tcp: bool, sending: Sending = Sending.LEFT) -> bool:
    """Ask for stamps of all that `sock` sends and receives from now on.

    Return whether there will be any: not for Unix sockets, which have none, nor MPTCP, which
    has none of sending. If they were on before, they are not numbered from 0 again.
    """
    if not AVAILABLE or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    if sock.proto == _IPPROTO_MPTCP:
        return False
    wanted = _WANTED | sending.value
    if not tcp:
        return _ask(sock, wanted)
    # Before Linux 6.2, bytes are counted from the first that was not acknowledged.
    return _ask(sock, wanted | _OPT_ID_TCP) or (
        not _unacknowledged(sock) and _ask(sock, wanted)
    )


def switch_off(sock: socket.socket) -> None:
    """Ask for no more stamps; those in the error queue remain there."""
    _ask(sock, 0)


def are_received() -> bool:
    """Return whether what arrives is stamped by now, or it cannot be known.

    The kernel begins with that in the background, when the first socket asks for it. So what
    arrives in the first moment has no stamp, unless another program asks for stamps.
    """
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.connect(sock.getsockname())
            if not switch_on(sock, tcp=False):
                return True
            sock.send(b"")
            _, ancillary, _, _ = sock.recvmsg(1, _ROOM, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False  # it is on its way: the machine is busy
    except OSError:
        return True
    return stamp_in(ancillary) is not None


def stamp_in(ancillary: Ancillary) -> int | None:
    """Return the software stamp among what came with something, in nanoseconds of Unix time."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPING:
            # Three times of two C longs each, of which the first is the software's.
            size = len(data) // 6
            seconds, nanoseconds = struct.unpack_from("=qq" if size == 8 else "=ll", data)  # noqa: PLR2004  -- bytes
            return int(seconds * 10**9 + nanoseconds) or None
    return None


def _ask(sock: socket.socket, flags: int) -> bool:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, flags)
    except OSError:
        return False
    return True


def _unacknowledged(sock: socket.socket) -> int:
    """Return how many bytes were sent, or are to be, that the peer has not acknowledged."""
    import fcntl  # noqa: PLC0415  -- which not every system has

    count = fcntl.ioctl(sock, _SIOCOUTQ, bytes(4))
    return int(struct.unpack("i", count)[0])
