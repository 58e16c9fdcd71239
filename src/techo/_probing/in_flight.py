"""Trips in flight: when they begin, what is sent next, and what came back. No I/O.

A driver, which is the pump where there is one, hands in what has arrived and takes what is to
be sent next. That is all that happens on the way of a message, so nothing else is done here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import attrs
import trio

from techo._kernel.stamps import Sending
from techo._probing.failure_cause import FailureCause
from techo._probing.matching import InOrder, OneByOne, State
from techo._probing.payloads import HEADER, Payloads
from techo._probing.schedule import Schedule
from techo._probing.trip import Clock, Ending, Incident, IncidentKind, Sink, Trip, TripState
from techo._pump.socket import Traffic

_FORGOTTEN = Incident(IncidentKind.FORGOTTEN, FailureCause.TIMEOUT_REPLY, "long ago")
_STRAY = Incident(IncidentKind.STRAY, FailureCause.CORRUPT, "what came was not sent by us")
_HARMED = Incident(IncidentKind.HARMED, FailureCause.CORRUPT, "it came back altered")


@attrs.define(eq=False)
class Run:
    """What all connections of one measurement share."""

    schedule: Schedule
    payloads: Payloads
    sizes: Iterator[int]
    """Bytes of one message after the other."""
    pipeline: float
    """Trips in flight over each connection, at the most; infinity for any number."""
    timeout: float
    """Seconds for connecting, and from sending to the reply."""
    sink: Sink
    take: Callable[[float], float | None]
    """`Schedule.take`, or what of the schedule takes its place."""
    clock: Callable[[], float] = trio.current_time
    """The run's clock, in seconds."""
    timed_by: Clock | None = Clock.USER
    """What times the trips; None for the kernel where it can."""
    stamped: Sending = Sending.LEFT
    """From which moment on the kernel times them."""
    trips_each: int | None = None
    """Trips over one connection, which is then closed and replaced; None for any number."""
    begun: int = 0
    """Trips that have begun."""
    in_flight: int = 0
    """Of these, how many have no fate yet."""
    done: trio.Event = attrs.field(factory=trio.Event)
    """Set when no trip is due any more and none is in flight."""
    idle: dict[InFlight, None] = attrs.field(factory=dict)
    """Connections that wait for a trip to be due, the longest first."""
    freed: trio.Event = attrs.field(factory=trio.Event)
    """Set when a connection becomes idle."""

    def begin_trip(self, now: float) -> Trip | None:
        """Begin a trip if one is due."""
        due = self.take(now)
        if due is None:
            self.see_whether_done(now)
            return None
        return self._begin(due, now)

    def _begin(self, due: float, sent: float) -> Trip:
        self.in_flight += 1
        self.begun += 1
        payload = self.payloads.make(self.begun, next(self.sizes))
        return Trip(self.begun, payload, due, sent)

    def see_whether_done(self, now: float) -> None:
        """Set `done` if no trip is due any more and none is in flight."""
        if not self.in_flight and self.schedule.next_due(now) is None:
            self.done.set()

    def answer(self, trip: Trip, seconds: float) -> None:
        """Report that a trip has just succeeded by itself, and took so long."""
        self.in_flight -= 1
        trip.state, trip.arrived = TripState.ANSWERED, self.clock()
        trip.sent = trip.arrived - seconds
        self.sink.add(trip)
        self.see_whether_done(trip.arrived)

    def lose(self, trip: Trip, ending: Ending) -> None:
        """Report that a trip has failed."""
        trip.state, trip.ending = TripState.LOST, ending
        self.in_flight -= 1
        self.sink.add(trip)
        self.see_whether_done(self.clock())

    def lose_due(self, ending: Ending, since: float) -> None:
        """Begin and lose what was due when something was tried `since` then, and meanwhile.

        What was due at other times is missed, because nothing was tried: this program was
        stopped, or too busy.
        """
        now = self.clock()
        self.schedule.miss(now if self.schedule.paused else since)
        now = min(now, since + self.timeout)
        while (due := self.schedule.take(now)) is not None:
            self.lose(self._begin(due, due), ending)

    def stop_sending(self) -> None:
        """Begin no more trips; the run is done when those in flight are over."""
        self.schedule.close()
        self.see_whether_done(self.clock())

    @property
    def overdue(self) -> bool:
        """Whether a trip is due that has not begun."""
        now = self.clock()
        due = self.schedule.next_due(now)
        return due is not None and due <= now


@attrs.define(eq=False)
class InFlight:
    """The trips in flight over one connection, or one socket for datagrams."""

    run: Run
    keeps_messages: bool
    """Whether each message comes back as one."""
    traffic: Traffic = attrs.field(factory=Traffic)
    trips: dict[Trip, None] = attrs.field(factory=dict)
    """Those that are waited for, the oldest first."""
    answered: bool = False
    """Whether a message came back whole."""
    failed: bool = False
    """Whether a trip was lost."""
    timed: Callable[[Trip], None] | None = None
    """Called with a trip that has arrived, before that is reported."""
    most: float = attrs.field(init=False)
    """Trips in flight at the same time."""
    _matching: InOrder[Trip] | OneByOne[Trip] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._matching = OneByOne(self.run.payloads) if self.keeps_messages else InOrder()
        self.most = self.run.pipeline

    def answer(self, chunk: bytes) -> bytes:
        """Take in what has arrived; return what to send now, of messages one at the most.

        Raises:
            EchoMismatch: over a stream, something else came back than was sent.
        """
        run, trips = self.run, self.trips
        now = run.clock()
        for state, trip in self._matching.feed(chunk):
            if state is State.WHOLE and trip is not None and trip.state is TripState.IN_FLIGHT:
                del trips[trip]
                run.in_flight -= 1
                self.answered = True
                trip.state = TripState.ANSWERED
                trip.arrived = now
                if self.timed is not None:
                    self.timed(trip)
                run.sink.add(trip)
            else:
                self._note(state, trip, now, len(chunk))
        return self.next(now)

    def next(self, now: float) -> bytes:
        """Begin the trips that there is room for; return what to send for them."""
        run = self.run
        pieces: list[bytes] = []
        if self.traffic.send_pending:
            # What is sent next must not overtake the rest of what was.
            run.see_whether_done(now)
            return b""
        while len(self.trips) < self.most and (trip := run.begin_trip(now)) is not None:
            self.trips[trip] = None
            self._matching.expect(trip)
            pieces.append(trip.payload)
            if self.keeps_messages:
                break
        if run.schedule.rate is not None:
            self._wait_for_due()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _wait_for_due(self) -> None:
        self.run.idle.pop(self, None)
        if len(self.trips) < self.most:
            self.run.idle[self] = None
            self.run.freed.set()

    def _note(self, state: State, trip: Trip | None, now: float, size: int) -> None:
        """Note a message that is not what was waited for."""
        if state is State.FORGOTTEN:
            self.answered = True
            self.run.sink.note(_FORGOTTEN)
        elif trip is None:
            self.run.sink.note(_STRAY)
        elif state is State.SHORT:
            reason = f"{size} of {len(trip.payload)} bytes"
            self.lose(trip, Ending(FailureCause.SHORT, reason))
        elif state is State.CORRUPT:
            self.lose(trip, Ending(FailureCause.CORRUPT, _HARMED.reason))
            self.run.sink.note(_HARMED)
        else:
            self.answered = True
            lost = trip.state is TripState.LOST
            in_time = now - trip.sent < self.run.timeout
            trip.state = TripState.DUPLICATE
            if lost:
                trip.state = TripState.ANSWERED if in_time else TripState.LATE
            trip.arrived = now
            if self.timed is not None:
                self.timed(trip)
            self.run.sink.add(trip)

    def quoted(self, data: bytes) -> Trip | None:
        """Return the trip in flight that `data` is of; the oldest if too little is quoted."""
        if len(data) < HEADER:
            return next(iter(self.trips), None)
        return next((each for each in self.trips if each.payload[:HEADER] in data), None)

    def lose(self, trip: Trip, ending: Ending) -> None:
        """Wait for a trip no more; it is still recognised if it comes."""
        del self.trips[trip]
        self.failed = True
        if isinstance(self._matching, OneByOne):
            self._matching.give_up(trip)
        self.run.lose(trip, ending)

    @property
    def oldest(self) -> float:
        """When the oldest trip in flight was sent; infinity if none is in flight."""
        return next(iter(self.trips)).sent if self.trips else math.inf

    @property
    def newest(self) -> float:
        """When the newest trip in flight was sent; minus infinity if none is in flight."""
        return next(reversed(self.trips)).sent if self.trips else -math.inf

    def give_up(self, until: float, reason: str) -> None:
        """Wait no more for messages that were sent by then."""
        for trip in [each for each in self.trips if each.sent <= until]:
            self.lose(trip, Ending(FailureCause.TIMEOUT_REPLY, reason))

    def end(self, ending: Ending, lost: Sequence[Trip]) -> None:
        """Lose these trips: the connection is over, or is for them."""
        for trip in lost:
            self.lose(trip, ending)
        self.run.sink.note(
            Incident(IncidentKind.BROKEN, ending.cause, ending.reason, ending.error, len(lost))
        )

    @property
    def midway(self) -> bool:
        """Whether some of the reply to the oldest trip has come, and not all."""
        return isinstance(self._matching, InOrder) and self._matching.midway

    @property
    def missing_bytes(self) -> int:
        """Bytes of the next message over a stream that have not come back; 0 if none is due."""
        return self._matching.missing if isinstance(self._matching, InOrder) else 0

    @property
    def missing(self) -> int:
        """How many messages have to come back over a stream before the next can."""
        return self._matching.owed if isinstance(self._matching, InOrder) else 0


@attrs.define(eq=False)
class FewInFlight(InFlight):
    """The trips in flight over a connection that is good for `Run.trips_each` of them."""

    left: int = attrs.field(init=False)
    """Trips that it is still good for."""
    all_made: Callable[[], None] = attrs.field(init=False)
    """Called when none is left, and none is in flight; maybe again."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        assert self.run.trips_each is not None  # noqa: S101  -- see `driver_for`
        self.left = self.run.trips_each

    def next(self, now: float) -> bytes:
        """Begin the trips that there is room for; return what to send for them."""
        before = len(self.trips)
        self.most = min(self.run.pipeline, before + self.left)
        data = super().next(now)
        self.left -= len(self.trips) - before
        if not self.left and not self.trips:
            self.run.see_whether_done(now)
            self.all_made()
        return data
