"""Stamping: which of the kernel's stamps is of which trip, and whether it can be true. No I/O.

Stamps of sending have the numbers of datagrams, or over TCP those of bytes: a message's is that
of its last byte. Stamps are of the wall clock, which may be set meanwhile, and some never come.
So a trip is timed by the kernel only if that is no longer than it took by the user's clock.
"""

from __future__ import annotations

from typing import Final

import attrs

from techo._kernel.error_queue import SendStamp
from techo._kernel.packets import Packet
from techo._kernel.stamps import IDS
from techo._probing.trip import Trip

_MOST: Final = 1_000
"""Trips whose stamp of sending is waited for; it comes within a moment, or never."""


@attrs.define(eq=False)
class Stamping:
    """The stamps of one socket, from when they were switched on."""

    bytewise: bool
    """Whether bytes are numbered, as over TCP, and not messages."""
    _sent: int = 0
    """How many messages or bytes were sent."""
    _trips: dict[int, Trip] = attrs.field(factory=dict, init=False)
    """Those whose stamp of sending has not come, by its number."""

    def note_sent(self, size: int, trip: Trip | None) -> None:
        """Note that a socket took so many bytes, with the last of the message of `trip`."""
        self._sent += size if self.bytewise else 1
        if trip is not None:
            self._trips[(self._sent - 1) % IDS] = trip
            if len(self._trips) > _MOST:
                del self._trips[next(iter(self._trips))]

    def restart(self) -> None:
        """Begin to count again; the stamps that were waited for are not known any more."""
        self._sent = 0
        self._trips.clear()

    def take(self, stamp: SendStamp) -> None:
        """Take in a stamp of sending; of a segment that is sent again, the first counts."""
        trip = self._trips.pop(stamp.number, None)
        if trip is not None:
            trip.sent_ns = stamp.sent_ns

    @staticmethod
    def time(trip: Trip, packet: Packet) -> None:
        """Time a trip whose reply, or the end of it, has come in `packet`."""
        trip.packet, trip.kernel_ns = packet, None
        if trip.sent_ns is not None and packet.received_ns is not None:
            duration = packet.received_ns - trip.sent_ns
            if 0 <= duration <= trip.user_ns:
                trip.kernel_ns = duration
