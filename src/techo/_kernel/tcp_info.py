"""TCP_INFO: what TCP has measured of one connection, and what it had to send again."""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol

import attrs

_SIZE: Final = 256
"""Bytes of struct tcp_info (linux/tcp.h): 280 in Linux 6.18, and it grows; what is used here
ends at 224. An older kernel returns fewer, and what it lacks is None."""

_OPTION: Final = getattr(socket, "TCP_INFO", None)
"""None where there is no such thing."""

# Where the fields begin.
_LOST: Final = 32
_RTT: Final = 68
_RTT_VARIANCE: Final = 72
_WINDOW: Final = 80
_RETRANSMITS: Final = 100
_MIN_RTT: Final = 148
_DELIVERY_RATE: Final = 160
_REORDERINGS: Final = 220

_UNKNOWN: Final = 2**32 - 1
"""The minimum RTT while none was measured."""


class Socket(Protocol):
    """A socket of Python's, or of trio's."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return the value of an option."""


@attrs.frozen(kw_only=True)
class TcpInfo:
    """What TCP says of a connection; None for what this kernel does not say."""

    rtt_ns: int | None
    """The round trip time to the acknowledgement, smoothed (RFC 6298), in nanoseconds."""
    rttvar_ns: int | None
    """By how much it varies (RFC 6298), in nanoseconds."""
    min_rtt_ns: int | None
    """The least in the last minutes, in nanoseconds."""
    retransmits: int | None
    """Segments that were sent again."""
    lost: int | None
    """Segments in flight that are taken for lost."""
    reorderings: int | None
    """Times that segments were seen to have arrived in another order."""
    congestion_window: int | None
    """How many segments may be in flight."""
    delivery_bytes_per_second: int | None
    """How fast bytes were delivered lately."""

    def after(self, before: TcpInfo) -> TcpInfo:
        """Return this with what adds up of the connection before, and the least of both."""
        least = [each for each in (self.min_rtt_ns, before.min_rtt_ns) if each is not None]
        return attrs.evolve(
            self,
            min_rtt_ns=min(least, default=None),
            retransmits=_sum(self.retransmits, before.retransmits),
            lost=_sum(self.lost, before.lost),
            reorderings=_sum(self.reorderings, before.reorderings),
        )


def read_tcp_info(sock: Socket) -> TcpInfo | None:
    """Return what TCP says of a socket; None if it is not TCP's, or is closed."""
    if _OPTION is None:
        return None
    try:
        return parse(sock.getsockopt(socket.IPPROTO_TCP, _OPTION, _SIZE))
    except OSError:
        return None


def parse(info: bytes) -> TcpInfo:
    """Return what a struct tcp_info says, of which there may be only the beginning."""
    least = _number(info, _MIN_RTT)
    return TcpInfo(
        rtt_ns=_microseconds(_number(info, _RTT)),
        rttvar_ns=_microseconds(_number(info, _RTT_VARIANCE)),
        min_rtt_ns=None if least == _UNKNOWN else _microseconds(least),
        retransmits=_number(info, _RETRANSMITS),
        lost=_number(info, _LOST),
        reorderings=_number(info, _REORDERINGS),
        congestion_window=_number(info, _WINDOW),
        delivery_bytes_per_second=_number(info, _DELIVERY_RATE, "=Q"),
    )


def _number(info: bytes, start: int, form: str = "=I") -> int | None:
    if len(info) < start + struct.calcsize(form):
        return None
    return int(struct.unpack_from(form, info, start)[0])


def _microseconds(amount: int | None) -> int | None:
    return None if amount is None else 1000 * amount


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
