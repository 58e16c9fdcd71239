"""Guard: which datagrams are not answered, lest two servers answer each other for ever.

Whoever sends a datagram can put any source address into it. An answer to a server that answers
everything starts a loop between the two that ends only when a datagram is lost (CERT Advisory
CA-1996-01; "Loopy Hell(ow)", USENIX Security 2024).
"""

from __future__ import annotations

import enum
from typing import Final

import attrs


class Drop(enum.StrEnum):
    """Why a datagram was not answered."""

    LOOP = "loop"
    """It came from one of our own ports or paths: answering might never end."""
    GUARDED = "guarded"
    """It came from a port whose service answers everything, such as another echo."""
    RATE = "rate"
    """Its source had sent `Limits.max_datagrams_per_second` already."""
    TRUNCATED = "truncated"
    """It had more than 256 KiB, which is what is received; the rest is not echoed."""
    UNBOUND = "unbound"
    """Its sender, a Unix socket, has no address to answer to."""
    CRASHED = "crashed"
    """The reply function raised."""
    SILENT = "silent"
    """The reply function answered something with nothing."""
    TOO_LARGE = "too_large"
    """The reply has more bytes than the transport carries (65,507 over IPv4)."""
    BLOCKED = "blocked"
    """There was no room for the reply: the peer reads nothing, or the socket is full."""
    FAULT = "fault"
    """A fault has lost it, as was asked for."""
    UNREACHABLE = "unreachable"
    """The system refused to send the reply there."""


ANSWERING_PORTS: Final = frozenset({0, 7, 13, 17, 19, 37, 53, 69, 123})
"""Ports whose services answer what they don't understand: echo, daytime, quote of the day,
chargen, time, DNS, TFTP, NTP; and 0, which is nobody's."""

_SOURCES: Final = 2**16
"""Sources remembered at once: what a bucket holds is back in a second, so more than these would
have to send in one second before any of them got more than its share."""

_BURST: Final = 1.0
"""Seconds' worth of datagrams that a source may send at once after a pause."""

_ROUNDING: Final = 1e-6
"""Seconds: adding up a second's worth of fractions does not make quite a second."""


@attrs.define(eq=False)
class Buckets:
    """A token bucket for each source, in bounded memory.

    What is kept of a bucket is when it will be full, from which the tokens in it follow (the
    generic cell rate algorithm of ITU-T I.371).
    """

    per_second: float
    """Datagrams that each source may send."""
    _full_at: dict[object, float] = attrs.field(factory=dict)
    """In the order in which they were last used, so that the first is the one to forget."""

    def admit(self, source: object, now: float) -> bool:
        """Take a token from the bucket of `source` at `now`, in seconds, if there is one."""
        full_at = max(self._full_at.pop(source, now), now)
        admitted = full_at + 1 / self.per_second <= now + _BURST + _ROUNDING
        if admitted:
            full_at += 1 / self.per_second
        self._full_at[source] = full_at
        if len(self._full_at) > _SOURCES:
            del self._full_at[next(iter(self._full_at))]
        return admitted
