"""The tally: what a load counts of its trips, and when it is hopeless to go on."""

from __future__ import annotations

import collections
import time
from typing import Final

import attrs

from techo._probing.causes import words_of
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.in_flight import Run
from techo._probing.outages import Silences
from techo._probing.trip import Incident, IncidentKind, Trip, TripState
from techo._transport.connect import Connected

NANOSECONDS: Final = 1_000_000_000

_SILENCES: Final = 10
"""Times as long as one reply is waited for, messages may all have been lost by chance."""


@attrs.define(eq=False)
class Tally:
    """The sink of a load.

    What happens in the warm-up is not counted, but for attempts to connect that failed.
    """

    lossy: bool
    """Whether a message may get lost, and the next come back over the same."""
    service: Histogram = attrs.field(factory=Histogram)
    """From when a message was sent."""
    response: Histogram = attrs.field(factory=Histogram)
    """From when it should have been sent; only where there is a rate, as the next."""
    send_lag: Histogram = attrs.field(factory=Histogram)
    """From when it should have been sent to when it was."""
    received_bytes: int = 0
    lost: int = 0
    """Trips that failed."""
    failures: collections.Counter[FailureCause] = attrs.field(factory=collections.Counter)
    """These, and what else went wrong."""
    reasons: dict[FailureCause, str] = attrs.field(factory=dict)
    """What the system reported of a cause last."""
    reconnects: int = 0
    connect: Histogram = attrs.field(factory=Histogram)
    """How long it took to open connections."""
    late: int = 0
    duplicate: int = 0
    stray: int = 0
    """Messages that belong to no trip."""
    silences: Silences = attrs.field(factory=Silences)
    last: float = 0.0
    """When the fate of a trip that is counted was known last, in the run's clock."""
    gave_up: float | None = None
    """When nothing had come back for so long that no more was sent, in the run's clock."""
    run: Run = attrs.field(init=False)
    """The run that this is the sink of."""
    _last_reply: float = 0.0
    """When any reply came, in the warm-up too; 0 for never."""
    _failing_since: float = 0.0
    """When something failed for the first time since a reply came."""

    def add(self, trip: Trip) -> None:
        """Count a trip whose state has just changed; see `Sink`."""
        schedule, state = self.run.schedule, trip.state
        if state is TripState.LOST and trip.ending is not None:
            self._lost(trip, trip.ending.cause)
            return
        now = self._last_reply = trip.arrived
        if self.silences.open:
            self.silences.replied(trip.sent, now, time.time())
        if not schedule.counts(trip.due):
            return
        if state is TripState.ANSWERED:
            if trip.ending is not None:
                self._regain(trip.ending.cause)
            self.service.record(int((now - trip.sent) * NANOSECONDS))
            if schedule.rate is not None:
                self.response.record(int((now - trip.due) * NANOSECONDS))
                self.send_lag.record(int((trip.sent - trip.due) * NANOSECONDS))
            self.received_bytes += len(trip.payload)
            self.last = now
        elif state is TripState.LATE:
            self.late += 1
        else:
            self.duplicate += 1

    def _lost(self, trip: Trip, cause: FailureCause) -> None:
        now = self.run.clock()
        if self.run.schedule.counts(trip.due):
            self.lost += 1
            self.failures[cause] += 1
            self.last = now
            if self._last_reply <= trip.sent:
                self.silences.failed(trip.sent, now, time.time(), probes=1)
        self._give_up_if_hopeless(cause)

    def _regain(self, cause: FailureCause) -> None:
        """Count a trip as lost no more: what was taken for its harmed reply was none."""
        self.lost -= 1
        self.failures[cause] -= 1

    def note(self, incident: Incident) -> None:
        """Count what happened other than to a trip; see `Sink`."""
        kind, cause = incident.kind, incident.cause
        now = self.run.clock()
        counted = not self.run.schedule.warming_up(now)
        if incident.error is not None:
            self.reasons[cause] = words_of(incident.error)
        if kind is IncidentKind.FORGOTTEN:
            self._last_reply = now
            self.late += counted
        elif kind is IncidentKind.STRAY:
            self.stray += counted
        elif kind is IncidentKind.NO_CONNECTION:
            self.failures[cause] += 1  # in the warm-up too, or nobody would ever know
            if counted and not self.run.in_flight:
                self.silences.failed(now, now, time.time(), probes=0)
            self._give_up_if_hopeless(cause)
        elif kind is IncidentKind.BROKEN:
            corrupt = cause is FailureCause.CORRUPT
            self.failures[cause] += corrupt and not incident.trips and counted
            if corrupt or self.run.overdue:
                self._give_up_if_hopeless(cause)

    def connected(self, connected: Connected, *, again: bool) -> None:
        """Count a connection that was opened while trips are counted; see `Sink`."""
        schedule, now = self.run.schedule, self.run.clock()
        self.reconnects += again and not schedule.warming_up(now)
        if schedule.counts(now):  # which those are not that were there at the beginning
            steps = attrs.astuple(connected.times)
            self.connect.record(int(sum(filter(None, steps)) * NANOSECONDS))

    def _give_up_if_hopeless(self, cause: FailureCause) -> None:
        """End the load if nothing has come back for long, and time alone won't end it.

        That is counted from the first failure, because nothing may have been due before.
        """
        now, schedule = self.run.clock(), self.run.schedule
        if self._last_reply > self._failing_since:
            self._failing_since = now
        if self._last_reply and schedule.trips is None:
            return
        silence = self.run.timeout
        if self.lossy and (self._last_reply or cause is FailureCause.TIMEOUT_REPLY):
            silence *= _SILENCES
        if now - max(self._failing_since, schedule.begin) > silence:
            if not self.failures.total():
                # It was all in the warm-up, and yet it is what has been found out.
                self.failures[cause] += 1
            self.gave_up = self.gave_up or now
            self.run.stop_sending()
