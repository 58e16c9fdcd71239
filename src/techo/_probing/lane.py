"""Lanes: the trips over one connection of a load, each sent, verified and timed. No I/O.

The driver, which is the pump where there is one, hands in what has arrived and takes what is to
be sent next. That is all that happens on the way of a message, so nothing else is done here.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from typing import Final

import attrs
import trio

from techo._probing.causes import FailureCause, cause_of, words_of
from techo._probing.histogram import Histogram
from techo._probing.matching import InOrder, OneByOne, State
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule

NANOSECONDS = 1_000_000_000
_NEVER: Final = math.inf


@attrs.define(eq=False)
class Trip:
    """One message on its way."""

    payload: bytes
    due: float
    """When it should have been sent, and when it was, in the run's clock."""
    sent: float
    given_up: bool = False


@attrs.define(eq=False)
class Traffic:
    """What the pump keeps count of."""

    chunks: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    progress: float = 0.0
    send_pending: bool = False


@attrs.define(eq=False)
class Tally:
    """What has happened after the warm-up, to all lanes together; and what connecting met."""

    service: Histogram = attrs.field(factory=Histogram)
    """From when a message was sent."""
    response: Histogram = attrs.field(factory=Histogram)
    """From when it should have been sent; only where there is a rate, as the next."""
    behind: Histogram = attrs.field(factory=Histogram)
    """From when it should have been to when it was sent."""
    bytes: int = 0
    lost: int = 0
    """Trips that failed."""
    errors: collections.Counter[FailureCause] = attrs.field(factory=collections.Counter)
    """These, and what else went wrong."""
    reasons: dict[FailureCause, str] = attrs.field(factory=dict)
    """What the system said of a cause last."""
    reconnects: int = 0
    late: int = 0
    duplicate: int = 0
    last: float = 0.0
    """When the last reply came."""

    def cause_of(self, error: Exception) -> FailureCause:
        """Name the cause behind an error, which is not counted here, and keep its words."""
        cause = cause_of(error)
        self.reasons[cause] = words_of(error)
        return cause


@attrs.define(eq=False)
class Work:
    """What all lanes share."""

    schedule: Schedule
    payloads: Payloads
    size: int
    pipeline: int
    clock: Callable[[], float]
    tally: Tally = attrs.field(factory=Tally)
    in_flight: int = 0
    done: trio.Event = attrs.field(factory=trio.Event)
    """Set when no trip is due any more and none is under way."""
    idle: dict[Lane, None] = attrs.field(factory=dict)
    """Lanes that wait for a trip to be due, the longest first."""
    freed: trio.Event = attrs.field(factory=trio.Event)
    """Set when a lane becomes idle."""
    begun: bool = False
    """Whether trips may begin."""
    _number: int = 0

    def begin(self, now: float) -> Trip | None:
        """Begin a trip if one is due."""
        due = self.schedule.take(now)
        if due is None:
            self.see_whether_done(now)
            return None
        self._number += 1
        self.in_flight += 1
        return Trip(self.payloads.make(self._number, self.size), due, now)

    def see_whether_done(self, now: float) -> None:
        """Set `done` if no trip is due any more and none is under way."""
        if not self.in_flight and self.schedule.next_due(now) is None:
            self.done.set()

    def stop_sending(self) -> None:
        """Begin no more trips; the work is done when those under way are over."""
        self.schedule.close()
        self.see_whether_done(self.clock())

    @property
    def overdue(self) -> bool:
        """Whether a trip is due that has not begun."""
        now = self.clock()
        due = self.schedule.next_due(now)
        return due is not None and due <= now

    @property
    def warming_up(self) -> bool:
        """Whether what happens now, other than to a trip, is not counted."""
        return self.schedule.warming_up(self.clock())

    def came_back(self, trip: Trip, now: float) -> None:
        """Note that all of it came back unharmed."""
        if not self.schedule.counts(trip.due):
            return
        tally = self.tally
        tally.service.record(int((now - trip.sent) * NANOSECONDS))
        if self.schedule.rate is not None:
            tally.response.record(int((now - trip.due) * NANOSECONDS))
            tally.behind.record(int((trip.sent - trip.due) * NANOSECONDS))
        tally.bytes += len(trip.payload)
        tally.last = now


@attrs.define(eq=False)
class Lane:
    """One connection, or one socket for datagrams."""

    work: Work
    messages: bool
    """Whether messages are kept apart."""
    traffic: Traffic = attrs.field(factory=Traffic)
    trips: dict[Trip, None] = attrs.field(factory=dict)
    """Those under way, the oldest first."""
    heard: float = 0.0
    """When a message came back whole for the last time; 0 for never."""
    failed: bool = False
    """Whether a trip has failed."""
    blocked_since: float = _NEVER
    """When the driver was first seen to have a rest unsent; infinity if it had none last."""
    _matching: InOrder[Trip] | OneByOne[Trip] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._matching = OneByOne(self.work.payloads) if self.messages else InOrder()

    def answer(self, chunk: bytes) -> bytes:
        """Take in what has arrived; give what to send now, of messages one at the most.

        Raises:
            EchoMismatch: over a stream, something else came back than was sent.
        """
        work, trips = self.work, self.trips
        now = work.clock()
        for state, trip in self._matching.feed(chunk):
            if state is State.WHOLE and trip is not None:
                del trips[trip]
                work.in_flight -= 1
                self.heard = now
                work.came_back(trip, now)
            else:
                self._note(state, trip)
        return self.next(now)

    def next(self, now: float) -> bytes:
        """Begin the trips that there is room for; give what to send for them."""
        work, pieces = self.work, list[bytes]()
        if (
            self.traffic.send_pending
        ):  # what is sent next must not overtake the rest of what was
            self.blocked_since = min(self.blocked_since, now)
            return b""
        self.blocked_since = _NEVER
        if not work.begun:
            return b""
        while len(self.trips) < work.pipeline and (trip := work.begin(now)) is not None:
            self.trips[trip] = None
            self._matching.expect(trip)
            pieces.append(trip.payload)
            if self.messages:
                break
        if work.schedule.rate is not None:
            self._wait_in_line()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wait_in_line(self) -> None:
        self.work.idle.pop(self, None)
        if len(self.trips) < self.work.pipeline:
            self.work.idle[self] = None
            self.work.freed.set()

    def _note(self, state: State, trip: Trip | None) -> None:
        """Note a message that is not what was waited for."""
        work, tally = self.work, self.work.tally
        if state is State.AGAIN and trip is not None:
            self.heard = work.clock()
            if work.schedule.counts(trip.due):
                tally.late += trip.given_up
                tally.duplicate += not trip.given_up
            trip.given_up = False
        elif state is State.FORGOTTEN:
            self.heard = work.clock()
            tally.late += not work.warming_up
        elif trip is None:
            tally.errors[FailureCause.CORRUPT] += not work.warming_up
        else:
            self._fail(
                trip, FailureCause.SHORT if state is State.SHORT else FailureCause.CORRUPT
            )

    def _fail(self, trip: Trip, cause: FailureCause) -> None:
        del self.trips[trip]
        self.failed = True
        work = self.work
        work.in_flight -= 1
        if work.schedule.counts(trip.due):
            work.tally.lost += 1
            work.tally.errors[cause] += 1
        work.see_whether_done(work.clock())

    @property
    def oldest(self) -> float:
        """When that was sent which is under way for longest; infinity if nothing is."""
        return next(iter(self.trips)).sent if self.trips else math.inf

    def give_up(self, until: float) -> None:
        """Wait no more for messages that were sent by then; they may still come, late."""
        assert isinstance(self._matching, OneByOne)  # noqa: S101  -- streams are cut instead
        for trip in [each for each in self.trips if each.sent <= until]:
            trip.given_up = True
            self._matching.give_up(trip)
            self._fail(trip, FailureCause.TIMEOUT_REPLY)

    def broke(self, cause: FailureCause) -> None:
        """Note that the connection is no more, with all that was under way."""
        if cause is FailureCause.CORRUPT and not self.trips:  # more came back than was sent
            self.work.tally.errors[cause] += not self.work.warming_up
        for trip in tuple(self.trips):
            self._fail(trip, cause)
        self.work.idle.pop(self, None)

    def replied_in_part(self) -> bool:
        """Whether some of the reply to the oldest trip has come."""
        return isinstance(self._matching, InOrder) and self._matching.midway
