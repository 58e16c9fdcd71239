"""Intervals: what a load has found out between two of its reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from techo._load.report import LoadReport
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, figures_to_json
from techo._schema import headed


@attrs.frozen(kw_only=True)
class Interval:
    """A part of a load, of which nothing is in another part."""

    begin: float
    """Seconds since counting began."""
    seconds: float
    """How long it was."""
    received: int
    received_bytes: int
    lost: int
    failures: Mapping[FailureCause, int]
    connects: int | None
    """Connections that were opened in it; None without `reconnect_every`."""
    latency: Histogram
    """Of what came back in it: response times where there is a rate, else service times."""

    @classmethod
    def between(cls, earlier: LoadReport | None, later: LoadReport) -> Interval:
        """Return what happened from one report to another of the same load, or to the first."""
        before = attrs.evolve(later, **_NOTHING) if earlier is None else earlier
        latency = later.latency.since(Histogram() if earlier is None else earlier.latency)
        causes = {
            cause: count - before.failures.get(cause, 0)
            for cause, count in later.failures.items()
        }
        connects = later.connects - (0 if earlier is None else earlier.connects)
        return cls(
            begin=before.seconds,
            seconds=later.seconds - before.seconds,
            received=later.received - before.received,
            received_bytes=later.received_bytes - before.received_bytes,
            # What was taken for lost may have come back since.
            lost=max(0, later.lost - before.lost),
            failures={cause: count for cause, count in causes.items() if count > 0},
            connects=None if later.reconnect_every is None else connects,
            latency=latency,
        )

    @property
    def failed(self) -> int:
        """How many failures there were."""
        return sum(self.failures.values())

    @property
    def trips_per_second(self) -> float:
        """Messages of which every byte came back, in each second of it."""
        return self.received / self.seconds if self.seconds else 0.0

    @property
    def connects_per_second(self) -> float | None:
        """Connections that were opened, in each second of it."""
        if self.connects is None:
            return None
        return self.connects / self.seconds if self.seconds else 0.0

    @property
    def megabits_per_second(self) -> float:
        """The bytes of these, one way."""
        return 8 * self.received_bytes / self.seconds / 1e6 if self.seconds else 0.0

    def percentile(self, percent: float) -> float | None:
        """Return a percentile of the latency in nanoseconds: see `Histogram.percentile`."""
        return self.latency.percentile(percent, lost=self.lost)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, with the names of the summary."""
        return headed(
            "interval",
            begin_seconds=self.begin,
            seconds=self.seconds,
            received=self.received,
            received_bytes=self.received_bytes,
            lost=self.lost,
            failures={str(cause): count for cause, count in self.failures.items()},
            trips_per_second=self.trips_per_second,
            connects_per_second=self.connects_per_second,
            latency_ns=figures_to_json(self.latency, lost=self.lost),
        )


def until_given_up(report: LoadReport) -> LoadReport:
    """Return a report without the seconds that it was asked for after it gave up.

    A sum stays as it is: when the first gave up, others may have gone on.
    """
    if report.gave_up_after_seconds is None or report.parts:
        return report
    return attrs.evolve(report, seconds=min(report.seconds, report.gave_up_after_seconds))


_NOTHING: Final[dict[str, Any]] = {
    "seconds": 0.0,
    "received": 0,
    "received_bytes": 0,
    "lost": 0,
    "failures": {},
}
"""What a report has before anything was counted."""
