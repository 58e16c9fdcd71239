"""The records of ping: each probe until its fate is known, then only what adds up."""

from __future__ import annotations

import collections
import math
import time
from typing import Final

import attrs

from techo._ping.results import PingFailure, PingReply, PingResult
from techo._ping.statistics import Outage, PingStatistics, nanoseconds
from techo._probing.causes import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.opening import Setup
from techo._probing.payloads import Payloads

_STEPS: Final = ("lookup", "connect", "handshake")


@attrs.define(eq=False)
class Probe:
    """One message of ping, and what is known of it."""

    seq: int
    payload: bytes
    sent: float
    """When it was, in the run's clock; if that failed, when it should have been."""
    sent_at: float
    """The same in Unix time."""
    connected: bool = False
    """Whether there was a connection to send it over."""
    answered: bool | None = None
    """None while it is under way; False once it has failed."""
    cause: FailureCause | None = None
    """Why it has failed."""
    over: float = 0.0
    """When it was answered or failed, whichever was first, in the run's clock."""


@attrs.define(eq=False)
class _Outages:
    """Follows probes in the order they were sent."""

    count: int = 0
    seconds: float = 0.0
    longest: Outage | None = None
    _first: Probe | None = None
    """Of an outage that goes on."""
    _last: Probe | None = None
    _probes: int = 0

    def settle(self, probe: Probe) -> None:
        """Take in the next probe, which is no longer under way."""
        if probe.answered:
            self.close(probe)
            return
        if self._first is None:
            self._first = probe
        self._last = probe
        self._probes += 1

    def close(self, answered: Probe | None = None) -> None:
        """End what goes on, because of the next that was answered or for want of probes."""
        first, last = self._first, self._last
        if first is None or last is None:
            return
        until = None if answered is None else answered.sent_at
        end = last.over if answered is None else answered.sent
        outage = Outage(first.sent_at, until, end - first.sent, self._probes)
        self.count += 1
        self.seconds += outage.seconds
        if self.longest is None or outage.seconds > self.longest.seconds:
            self.longest = outage
        self._first, self._probes = None, 0


@attrs.define(eq=False)
class Records:
    """What has become of the probes so far."""

    endpoint: str
    in_flight: dict[Probe, None] = attrs.field(factory=dict)
    """The oldest first."""
    results: collections.deque[PingResult] = attrs.field(factory=collections.deque)
    """What nobody has asked for yet."""
    _sent: int = 0
    _received: int = 0
    _late: int = 0
    _duplicate: int = 0
    _corrupt: int = 0
    _reconnects: int = 0
    _failures: collections.Counter[FailureCause] = attrs.field(factory=collections.Counter)
    _largest: int | None = None
    _rtt: Histogram = attrs.field(factory=Histogram)
    _squares: int = 0
    """The sum of all squares of round trip times, in nanoseconds squared."""
    _last: int | None = None
    """The round trip time before the next, in nanoseconds."""
    _differences: int = 0
    """The sum of differences between one and the next, in nanoseconds."""
    _unsettled: collections.deque[Probe] = attrs.field(factory=collections.deque)
    """Those under way, and what was sent behind the first of them."""
    _outages: _Outages = attrs.field(factory=_Outages)
    _setup: dict[str, Histogram] = attrs.field(factory=dict)

    def begin(self, payloads: Payloads, size: int, now: float, due: float) -> Probe:
        """Make the next probe, which is due, or was."""
        self._sent += 1
        payload = payloads.make(self._sent, size)
        probe = Probe(self._sent, payload, due, time.time() - (now - due))
        self._unsettled.append(probe)
        self.in_flight[probe] = None
        return probe

    def connected(self, setup: Setup, *, again: bool) -> None:
        """Note how long the steps to a connection took."""
        self._reconnects += again
        for name in _STEPS:
            seconds = getattr(setup, name)
            if seconds is not None:
                self._setup.setdefault(name, Histogram()).record(nanoseconds(seconds))

    def answer(self, probe: Probe, now: float) -> None:
        """Note that a probe has come back, be it the first time or not."""
        late, duplicate = probe.answered is False, probe.answered is True
        self._late += late
        self._duplicate += duplicate
        if late and probe.cause is not None:
            self._failures[probe.cause] -= 1
        if not duplicate:
            self._count(probe, nanoseconds(now - probe.sent))
            self.in_flight.pop(probe, None)
            self._settle(probe, now, answered=True)
        size, seconds = len(probe.payload), now - probe.sent
        self.results.append(PingReply(probe.seq, size, seconds, time.time(), late, duplicate))

    def _count(self, probe: Probe, duration: int) -> None:
        self._received += 1
        self._largest = max(self._largest or 0, len(probe.payload))
        self._rtt.record(duration)
        self._squares += duration**2
        if self._last is not None:
            self._differences += abs(duration - self._last)
        self._last = duration

    def fail(
        self, probe: Probe | None, cause: FailureCause, reason: str, now: float
    ) -> PingFailure:
        """Note that a probe has failed, or something that belongs to none under way."""
        if probe is not None:
            del self.in_flight[probe]
            self._failures[cause] += 1
            probe.cause = cause
            self._settle(probe, now, answered=False)
        seq = None if probe is None else probe.seq
        failure = PingFailure(seq, cause, reason, time.time())
        self.results.append(failure)
        return failure

    def count_corrupt(self) -> None:
        """Note that something came back that was not what was sent."""
        self._corrupt += 1

    def _settle(self, probe: Probe, now: float, *, answered: bool) -> None:
        if probe.answered is None:
            probe.over = now
        probe.answered = answered
        while self._unsettled and self._unsettled[0].answered is not None:
            self._outages.settle(self._unsettled.popleft())

    def statistics(self) -> PingStatistics:
        """Say what is known by now."""
        count = self._rtt.count
        outages = attrs.evolve(self._outages)
        outages.close()
        variance = count * self._squares - self._rtt.sum**2  # times count squared; exact
        lost = self._failures.total()
        return PingStatistics(
            endpoint=self.endpoint,
            sent=self._sent,
            received=self._received,
            lost=lost,
            in_flight=self._sent - self._received - lost,
            late=self._late,
            duplicate=self._duplicate,
            corrupt=self._corrupt,
            failures={cause: n for cause in FailureCause if (n := self._failures[cause])},
            reconnects=self._reconnects,
            largest=self._largest,
            rtt=self._rtt.copy(),
            mdev=math.isqrt(variance) // count if count else None,
            jitter=round(self._differences / (count - 1)) if count > 1 else None,
            outages=outages.count,
            outage_seconds=outages.seconds,
            longest_outage=outages.longest,
            setup={name: each.copy() for name, each in self._setup.items()},
        )
