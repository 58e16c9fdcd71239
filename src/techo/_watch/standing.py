"""The standing of a target: its state, from probe to probe in the order of sending. No I/O."""

from __future__ import annotations

import collections
from collections.abc import Callable

import attrs

from techo._probing.failure_cause import FailureCause
from techo._watch.events import Event, EventKind, State
from techo._watch.targets import Thresholds


@attrs.frozen
class Moment:
    """A moment by both clocks."""

    now: float
    """In the run's clock, which cannot be set."""
    at: float
    """In Unix time."""


@attrs.frozen
class Fate:
    """What became of a probe."""

    sent: Moment
    over: Moment
    """When its fate was known."""
    cause: FailureCause | None = None
    """Why it was lost; None if it was answered."""
    reason: str = ""


@attrs.define(eq=False)
class _Lasting:
    """An event that goes on."""

    kind: EventKind
    since: Moment
    probes: int = 0
    cause: FailureCause | None = None
    first_error: str = ""
    last_error: str = ""
    latest: float | None = None
    """When the last of these was sent, in the run's clock."""

    def lose(self, fate: Fate) -> None:
        self.probes += 1
        self.latest = fate.sent.now
        self.cause = fate.cause
        self.first_error = self.first_error or fate.reason
        self.last_error = fate.reason

    def event(self, until: float | None = None) -> Event:
        """Return it, over at `until` in the run's clock, or as it goes on."""
        return Event(
            kind=self.kind,
            since=self.since.at,
            seconds=None if until is None else max(0.0, until - self.since.now),
            probes=self.probes,
            cause=self.cause,
            first_error=self.first_error,
            last_error=self.last_error,
        )


@attrs.frozen
class Turn:
    """A change of the state that is told."""

    at: float
    """In Unix time."""
    before: State
    state: State
    ended: Event | None = None
    began: Event | None = None


@attrs.define(eq=False)
class Standing:
    """What state a target is in, and what goes on."""

    thresholds: Thresholds
    tell: Callable[[Turn], None]
    since: Moment
    """From when on it is in its state."""
    real: State = State.UNKNOWN
    """The state, whether it is flapping or not."""
    changed: float = 0.0
    """From when on that is so, in the run's clock."""
    _flapping: _Lasting | None = None
    _lasting: _Lasting | None = None
    """That it is down or degraded."""
    _losing: _Lasting | None = None
    """What was lost running, and may become that it is down."""
    _answered: list[Fate] = attrs.field(factory=list)
    """What was answered running, while that may become that it is up."""
    _turns: collections.deque[Moment] = attrs.field(factory=collections.deque)
    """The latest changes of the real state."""

    @property
    def state(self) -> State:
        """The state that is told."""
        return State.FLAPPING if self._flapping is not None else self.real

    @property
    def _down(self) -> _Lasting | None:
        return self._lasting if self.real is State.DOWN else None

    @property
    def down_since(self) -> float | None:
        """Since when it is down, in the run's clock; None if it is not."""
        return None if self._down is None else self._down.since.now

    @property
    def lost_while_down(self) -> int:
        """How many probes were lost since it is down; 0 if it is not."""
        return 0 if self._down is None else self._down.probes

    @property
    def down_until(self) -> float:
        """Up to when it is known to be down: the next probe may have been answered."""
        latest = None if self._lasting is None else self._lasting.latest
        return self.changed if latest is None else latest

    def follow(self, fate: Fate) -> None:
        """Take in the fate of the next probe."""
        if fate.cause is None:
            self._follow_answered(fate)
        else:
            self._follow_lost(fate)

    def _follow_answered(self, fate: Fate) -> None:
        self._losing = None
        if self.real not in (State.DOWN, State.UNKNOWN):
            return
        self._answered.append(fate)
        if len(self._answered) >= self.thresholds.up_after:
            self._become(State.UP, self._answered[0].sent, fate.over)

    def _follow_lost(self, fate: Fate) -> None:
        self._answered.clear()
        if self._flapping is not None:
            self._flapping.lose(fate)
        if self._down is not None:
            self._down.lose(fate)
            return
        if self._losing is None:
            self._losing = _Lasting(EventKind.DOWN, fate.sent)
        self._losing.lose(fate)
        if self._losing.probes >= self.thresholds.down_after:
            self._become(State.DOWN, self._losing.since, fate.over, self._losing)

    def judge(self, found: str | None, now: Moment) -> None:
        """Take in what a rule has found that fires; None if none does."""
        if self.real is State.UP and found is not None:
            lasting = _Lasting(EventKind.DEGRADED, now, first_error=found, last_error=found)
            self._become(State.DEGRADED, now, now, lasting)
        elif self.real is State.DEGRADED and self._lasting is not None:
            if found is None:
                self._become(State.UP, now, now)
            else:
                self._lasting.last_error = found

    def _become(
        self, state: State, since: Moment, known: Moment, lasting: _Lasting | None = None
    ) -> None:
        """Change the real state as of `since`, which is `known` only now."""
        told, first = self.state, self.real is State.UNKNOWN
        ended = None if self._lasting is None else self._lasting.event(since.now)
        self.real, self._lasting, self._losing = state, lasting, None
        self.changed = since.now
        self._answered.clear()
        if not first:
            self._turns.append(known)
        while self._turns and self._turns[0].now < known.now - self.thresholds.flap_seconds:
            self._turns.popleft()
        began = None if lasting is None else lasting.event()
        if self._flapping is None and len(self._turns) > self.thresholds.flap_changes:
            self._flapping = _Lasting(EventKind.FLAPPING, self._turns[0])
            self.since, began = self._turns[0], self._flapping.event()
        elif self._flapping is not None:
            return
        else:
            self.since = since
        self.tell(Turn(known.at, told, self.state, ended, began))

    def settle_down(self, now: Moment) -> None:
        """End flapping if it was quiet for long enough."""
        flapping = self._flapping
        quiet = now.now - self.thresholds.flap_seconds
        if flapping is None or (self._turns and self._turns[-1].now > quiet):
            return
        self._flapping, self.since = None, now
        began = None if self._lasting is None else self._lasting.event()
        ended = flapping.event(now.now)
        self.tell(Turn(now.at, State.FLAPPING, self.real, ended, began))
