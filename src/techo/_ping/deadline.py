"""The deadline of a ping, which ends it as ping(8)'s -w does."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from techo._probing.failure_cause import NEVER_REACHED, FailureCause
from techo._probing.in_flight import Run
from techo._probing.trip import Trip, TripState

_ENDS: Final = NEVER_REACHED - {FailureCause.TIMEOUT_CONNECT}
"""Causes that somebody has reported, as the network does by ICMP: to wait on makes no sense."""


@attrs.frozen
class Deadline:
    """When a ping is over: after its time, after enough replies, or at an error."""

    seconds: float
    """From the beginning, whatever has come back by then."""
    replies: int | None
    """So many are enough; None for as many as there is time for."""

    def is_over(self, trip: Trip, received: int) -> bool:
        """Return whether what has become of a trip is the end, when `received` came back."""
        if trip.state is TripState.LOST:
            return trip.ending is not None and trip.ending.cause in _ENDS
        return received == self.replies

    async def wait(self, run: Run) -> None:
        """End the run when its time is over; what is in flight then stays so."""
        await trio.sleep(self.seconds)
        run.done.set()
