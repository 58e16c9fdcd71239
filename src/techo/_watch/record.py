"""The record of one target: what becomes of its probes is counted here, and its state kept."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs

from techo._probing.failure_cause import FailureCause
from techo._probing.in_flight import Run
from techo._probing.sequence import InSequence
from techo._probing.setup import Setup
from techo._probing.target import name_of
from techo._probing.trip import Incident, IncidentKind, Trip, TripState
from techo._tls.certificates import days_until
from techo._transport.connect import Connected
from techo._watch.counts import MINUTE, Counts, Snapshot, Span
from techo._watch.events import Change, State
from techo._watch.standing import Fate, Moment, Standing, Turn
from techo._watch.targets import WatchTarget


@attrs.define(eq=False)
class Record:
    """The sink of a target's probes."""

    target: WatchTarget
    wall: Callable[[], float]
    """Unix time."""
    keep: Callable[[Span], None]
    """Takes each minute that is over."""
    tell: Callable[[Change], None]
    run: Run = attrs.field(init=False)
    """The run that this is the sink of."""
    renew: Callable[[], None] = attrs.field(default=lambda: None, init=False)
    """Called when the target goes down, and again and again while it is."""
    total: Counts = attrs.field(factory=Counts, init=False)
    _minute: Counts = attrs.field(factory=Counts, init=False)
    """Of the minute that goes on."""
    _before: Counts = attrs.field(factory=Counts, init=False)
    """Of the one before."""
    _minute_end: float = attrs.field(default=0.0, init=False)
    """In the run's clock."""
    _minute_at: int = attrs.field(default=0, init=False)
    """When it began, in Unix time."""
    _down_to: float = attrs.field(default=-math.inf, init=False)
    """Up to when it was counted how long it was down, in the run's clock."""
    _sequence: InSequence[Fate] = attrs.field(factory=InSequence, init=False)
    _last_ns: int | None = attrs.field(default=None, init=False)
    _cause: FailureCause | None = attrs.field(default=None, init=False)
    _reason: str = attrs.field(default="", init=False)
    _setup: Setup = attrs.field(factory=Setup, init=False)
    _standing: Standing = attrs.field(init=False)

    def start(self, now: float) -> None:
        """Begin to count at `now`, in the run's clock."""
        at = self.wall()
        self._standing = Standing(self.target.thresholds, self._take_turn, Moment(now, at))
        self._begin_minute(now, at)

    def _begin_minute(self, now: float, at: float) -> None:
        self._minute_at = int(at) // MINUTE * MINUTE
        self._minute_end = now + max(0.0, self._minute_at + MINUTE - at)

    def add(self, trip: Trip) -> None:
        """Count a probe whose state has just changed; see `Sink`."""
        now = self.run.clock()
        if now >= self._minute_end:
            self.roll(now)
        ending, state = trip.ending, trip.state
        if state is TripState.DUPLICATE:
            self._minute.duplicate += 1
            self.total.duplicate += 1
            return
        if state is TripState.LOST and ending is not None:
            self._minute.failures[ending.cause] += 1
            self.total.failures[ending.cause] += 1
            self._cause, self._reason, self._last_ns = ending.cause, ending.reason, None
            self._settle(trip, now, ending.cause, ending.reason)
            return
        self._last_ns = trip.duration_ns
        for counts in (self._minute, self.total):
            counts.latency.record(trip.duration_ns)
            counts.late += state is TripState.LATE
        if ending is not None:  # it was lost before
            self._minute.failures[ending.cause] -= 1
            self.total.failures[ending.cause] -= 1
        else:
            self._settle(trip, now)

    def _settle(
        self, trip: Trip, now: float, cause: FailureCause | None = None, reason: str = ""
    ) -> None:
        at = self.wall()
        sent = Moment(trip.sent, at - (now - trip.sent))
        for fate in self._sequence.put(trip.number, Fate(sent, Moment(now, at), cause, reason)):
            was_down = self._standing.down_since
            self._standing.follow(fate)
            lost = 0 if fate.cause is None else self._standing.lost_while_down
            if lost and not lost % self.target.thresholds.down_after:
                self.renew()
            if was_down is not None and self._standing.down_since is None:
                self._count_down(was_down, self._standing.changed)

    def _take_turn(self, turn: Turn) -> None:
        target = self.target
        self.tell(
            Change(
                target=target.name,
                group=target.group,
                labels=target.labels,
                at=turn.at,
                before=turn.before,
                state=turn.state,
                ended=turn.ended,
                began=turn.began,
            )
        )

    def note(self, incident: Incident) -> None:
        """Count what happened other than to a probe; see `Sink`."""
        stray = incident.kind is IncidentKind.STRAY
        corrupt = not stray and incident.cause is FailureCause.CORRUPT
        if incident.kind is not IncidentKind.FORGOTTEN:
            for counts in (self._minute, self.total):
                counts.stray += stray
                counts.corrupt += corrupt

    def connected(self, connected: Connected, *, again: bool) -> None:
        """Count how long the steps to a connection took; see `Sink`."""
        del again
        self._setup.note(connected)

    def tick(self, now: float) -> None:
        """Do what is due, whether probes are over or not: minutes, rules, flapping."""
        if now >= self._minute_end:
            self.roll(now)
        moment = Moment(now, self.wall())
        if self.target.rules and self._standing.real in {State.UP, State.DEGRADED}:
            recent, days = self._recent(), days_until(self._setup.certificate_end, moment.at)
            found = (rule.judge(recent, days) for rule in self.target.rules)
            self._standing.judge(next(filter(None, found), None), moment)
        self._standing.settle_down(moment)

    def roll(self, now: float) -> None:
        """End the minute that goes on, and begin the next."""
        self._count_down_so_far()
        over, start = self._minute, self._minute_at
        self._before, self._minute = over, Counts()
        self._begin_minute(now, self.wall())
        self.keep(Span(self.target.name, start, MINUTE, over))

    def _count_down_so_far(self) -> None:
        if self._standing.down_since is not None:
            self._count_down(self._standing.down_since, self._standing.down_until)

    def _count_down(self, since: float, until: float) -> None:
        """Count how long it was down from one moment to the other, as far as it was not."""
        seconds = max(0.0, until - max(since, self._down_to))
        self._minute.down_seconds += seconds
        self.total.down_seconds += seconds
        self._down_to = until

    def _recent(self) -> Counts:
        recent = self._before.copy()
        recent.add(self._minute)
        return recent

    def minute(self) -> Span:
        """Return the minute that goes on, up to now."""
        self._count_down_so_far()
        return Span(self.target.name, self._minute_at, MINUTE, self._minute.copy())

    def snapshot(self) -> Snapshot:
        """Return what is known now."""
        target, standing = self.target, self._standing
        self._count_down_so_far()
        return Snapshot(
            target=target.name,
            endpoint=name_of(target.endpoint),
            kind=target.kind,
            group=target.group,
            labels=target.labels,
            state=standing.state,
            since=standing.since.at,
            down=standing.real is State.DOWN,
            last_ns=self._last_ns,
            cause=self._cause,
            reason=self._reason,
            sent=self.run.begun,
            missed=self.run.schedule.missed,
            recent=self._recent(),
            total=self.total.copy(),
            setup=self._setup.durations(),
            certificate_end=self._setup.certificate_end,
        )
