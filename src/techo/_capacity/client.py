"""The client: whether it, and not the server, was why a load did not hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from techo._capacity.objectives import NANOSECONDS, Missed, percent_of
from techo._load.report import LoadReport
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._probing.text import milliseconds, number_of
from techo._probing.timer import open_timer
from techo._rules import TIME, Rule

_BEAT: Final = 0.02
"""Seconds between two looks at how late this program is: 50 a second cost next to nothing."""

_SHARE: Final = 0.5
"""Of a limit, how much this program may be late itself for the rest to be the server's."""

_BUSY: Final = 0.9
"""Share of all room for messages in flight from which on there was none to spare."""

_SLOWER: Final = 1.5
"""Times as long as at its best that a server takes once it is what holds trips up."""


@attrs.define(eq=False)
class Pulse:
    """Looks at how late this program wakes up, beside a load.

    What is sent late because of that is sent late by the client, whatever the server does.
    """

    lags: Histogram = attrs.field(factory=Histogram)
    """How late it was, each time."""
    counts_from: float = math.inf
    """When to begin, in the run's clock: connecting and warming up are no part of it."""

    async def beat(self) -> None:
        """Look until cancelled. Where it was late for long, it was late for each beat."""
        due = trio.current_time()
        with open_timer() as timer:
            while True:
                due += _BEAT
                await timer.sleep_until(due)
                if due >= self.counts_from:
                    late = max(0.0, trio.current_time() - due)
                    self.lags.record(int(late * NANOSECONDS))


@attrs.frozen
class Shortcoming:
    """Why a client was the limit."""

    why: str
    remedy: str


def shortcoming(
    report: LoadReport, missed: Sequence[Missed], lags: Histogram, quickest: float | None
) -> Shortcoming | None:
    """Return why this client was the limit of a load that missed something; None if not.

    `quickest` is the least median of service times that was seen at other rates, in ns.
    """
    if died := [part.name for part in report.parts if part.died]:
        return Shortcoming(f"{died[0]} died", "start its worker again")
    if short := report.failures.get(FailureCause.LOCAL):
        what = f"{number_of(short, 'failure')} of this machine itself"
        return Shortcoming(what, "look at its limits")
    if report.client_was_limit:
        used = f"this program used {report.client_cpu_percent:.0f} % of a core"
        return Shortcoming(
            used, "share it among several machines (--fleet), or use a faster one"
        )
    if report.dropped_here and 2 * report.dropped_here >= report.lost:
        datagrams = number_of(report.dropped_here, "datagram")
        full = f"{datagrams} came back and found this program's buffers full"
        return Shortcoming(full, "share it among several machines (--fleet)")
    late = [_own_lag(each.rule, lags) for each in missed]
    if late and None not in late:
        was = f"this program was {milliseconds(late[0])} ms late itself"
        return Shortcoming(was, "let nothing else run beside it, or allow for more time")
    if _connections_were_few(report, quickest):
        busy = f"all connections ({report.connections:,}) were busy"
        return Shortcoming(
            f"{busy}, and the server no slower than before",
            "have more of them (-c), or more in flight on each (--pipeline)",
        )
    return None


def _own_lag(rule: Rule | None, lags: Histogram) -> float | None:
    """Return how late this program was, if that alone is much of what a rule allows."""
    if rule is None or rule.dimension is not TIME or not lags.count:
        return None
    percent = percent_of(rule)
    lag: float | None = lags.mean if rule.name.endswith("mean") else lags.max
    if percent is not None:
        lag = lags.percentile(percent) or lags.max
    return lag if lag is not None and lag >= _SHARE * rule.limit else None


def _connections_were_few(report: LoadReport, quickest: float | None) -> bool:
    """Return whether all were busy although the server took no longer than at its best."""
    if report.send_lag is None:
        return False
    # Until the first of them was sent, it was those of the warm-up that had the room.
    nanoseconds = report.seconds * NANOSECONDS - report.send_lag.min
    room = report.connections * report.pipeline * nanoseconds
    median = report.service.percentile(50)
    if quickest is None or median is None or report.service.sum < _BUSY * room:
        return False
    return median <= _SLOWER * quickest
