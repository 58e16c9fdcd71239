"""The gate: handshakes get so much of each turn of the run, so that they starve nobody.

A handshake computes for a millisecond without a pause, and a thousand that come at once would
hold up every other task of the run for a second. Here they wait in line for the next turn.
"""

from __future__ import annotations

import time
from typing import Final

import attrs
import trio

from techo._per_run import OnePerRun
from techo._tls.records import TlsRecords

_SHARE: Final = 0.0005
"""Seconds of a turn for all handshakes: one that computes, or ten of which a few bytes
came. A longer share makes turns longer, and no handshake faster."""

_WAKING: Final = 50e-6
"""Seconds that waking a task costs, which its step comes to."""


@attrs.define(eq=False)
class HandshakeGate:
    """What handshakes have had of the present turn of one trio run, and who waits for more."""

    _spent: float = 0.0
    _steps: int = 0
    _last: float = 0.0
    """When the last step ended."""
    _line: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _next: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Those whose turn it was, as the time was over. They go before the line."""
    _idle: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    async def step(self, records: TlsRecords) -> bool:
        """Do `TlsRecords.shake_hands` when there is time for it; cancellation does nothing.

        Raises:
            ssl.SSLError: as that does.
        """
        if self._line or self._next:  # those who came before go first
            await self._line.park()
        elif time.perf_counter() - self._last >= _SHARE:
            self._spent, self._steps = 0.0, 0  # all the others have had as much since
        while self._spent >= _SHARE:
            self._idle.unpark()
            await self._next.park()
        begun = time.perf_counter()
        try:
            return records.shake_hands()
        finally:
            self._last = time.perf_counter()
            self._spent += self._last - begun + _WAKING
            self._steps += 1

    async def run(self) -> None:
        """Begin a new share with each turn while somebody waits for it, until cancelled."""
        while True:
            while self._line or self._next:
                await trio.lowlevel.checkpoint()
                # As many as there is time for, if they take as long as those of this turn.
                few = int(_SHARE * self._steps / self._spent) if self._steps else 1
                self._spent, self._steps = 0.0, 0
                few = max(1, few)
                self._line.unpark(count=few - len(self._next.unpark(count=few)))
            await self._idle.park()

    @staticmethod
    def of_this_run() -> HandshakeGate:
        """Return the gate of the present trio run, which is set up if there is none yet."""
        return _gate.get()


_gate: Final = OnePerRun(HandshakeGate, "techo handshake gate")
