"""A step: a load at one rate, and what came of it."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from techo._load.report import LoadReport
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, figures_to_json
from techo._reprs import brief
from techo._schema import headed


class StepVerdict(enum.StrEnum):
    """What came of a step."""

    HELD = "held"
    """All that must hold did."""
    FAILED = "failed"
    """Something did not."""
    CLIENT_LIMIT = "client-limit"
    """Something did not, and it was this program that fell short: nothing is known."""
    NEVER_REACHED = "never-reached"
    """Nobody was there to answer."""


@attrs.frozen(kw_only=True)
class CapacityStep:
    """One load of the search for a capacity, and its verdict."""

    rate: float
    """Trips per second that were due."""
    seconds: float
    """How long it was to be, without the warm-up. One that cannot hold any more ends early."""
    confirming: bool
    """Whether it was a long one, to be believed."""
    verdict: StepVerdict
    """What came of it."""
    missed: tuple[str, ...]
    """What did not hold, such as ``p99<5ms (was 6.12 ms)``."""
    client: str | None
    """Why this program was the limit; None if it was not."""
    remedy: str | None
    """What to do about that."""
    report: LoadReport
    """What the load has found out."""
    client_lag: Histogram
    """How late this program itself was each time that it looked, in nanoseconds."""

    def __repr__(self) -> str:
        return brief(self)

    @property
    def held(self) -> bool:
        """Whether all that must hold did."""
        return self.verdict is StepVerdict.HELD

    @property
    def broke_client(self) -> bool:
        """Whether the client is no more what it was, or lacks something, at any rate."""
        died = any(part.died for part in self.report.parts)
        return died or FailureCause.LOCAL in self.report.failures

    @property
    def ended_early(self) -> bool:
        """Whether it was over before its time."""
        return self.report.sent + self.report.unsent < round(self.seconds * self.rate)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, with the names of a load's summary."""
        report = self.report
        return headed(
            "step",
            wanted_trips_per_second=self.rate,
            wanted_seconds=self.seconds,
            confirming=self.confirming,
            verdict=str(self.verdict),
            missed=list(self.missed),
            client=self.client,
            remedy=self.remedy,
            seconds=report.seconds,
            received=report.received,
            lost=report.lost,
            unsent=report.unsent,
            reconnects=report.reconnects,
            loss_percent=report.loss,
            failures={str(cause): count for cause, count in report.failures.items()},
            trips_per_second=report.trips_per_second,
            latency_ns=figures_to_json(report.latency, lost=report.lost),
            service_ns=figures_to_json(report.service, lost=report.lost),
            client_lag_ns=figures_to_json(self.client_lag, lost=0),
            client_cpu_percent=report.client_cpu_percent,
        )
