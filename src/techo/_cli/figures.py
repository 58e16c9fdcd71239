"""Figures: what rules of --fail-if can be about, which is the same in ping and load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import PERCENTS, Histogram, nanoseconds
from techo._quantities import (
    read_nanoseconds,
    read_number,
    read_percent,
    read_rate,
    read_size,
)

if TYPE_CHECKING:
    from techo._load.report import LoadReport
    from techo._ping.statistics import PingStatistics


@attrs.frozen
class Dimension:
    """What a figure is, and how its limits are written."""

    what: str
    """What help calls figures of it."""
    example: str
    """Of a limit."""
    read: Callable[[str], float]
    """Reads a limit."""
    divisor: float = 1
    """What divides it to be shown."""
    unit: str = ""
    """What it is shown in."""
    missing: str = "there were too few round trips"
    """Why there may be no such figure."""


TIME: Final = Dimension("times", "5ms", read_nanoseconds, 1_000_000, " ms")
SHARE: Final = Dimension("shares", "0.1%", read_percent, unit=" %")
RATE: Final = Dimension("rates (round trips per second)", "10000", read_rate, unit="/s")
SIZE: Final = Dimension("sizes", "64k", read_size, unit=" bytes")
COUNT: Final = Dimension("counts", "0", read_number)
DAYS: Final = Dimension(
    "days", "14", read_number, unit=" days", missing="there was no certificate"
)
SUBFLOWS: Final = Dimension(
    "subflows of MPTCP", "2", read_number, unit=" subflows", missing="nothing was to be MPTCP"
)
SEGMENTS: Final = Dimension(
    "segments (of tcp and tls)", "0", read_number, missing="TCP says nothing of it"
)
DIMENSIONS: Final = (TIME, SHARE, RATE, SIZE, COUNT, DAYS, SUBFLOWS, SEGMENTS)

Table: TypeAlias = Mapping[str, Dimension]
"""The figures that the rules of a command can be about."""

Figures: TypeAlias = dict[str, float | None]
"""Times in nanoseconds, shares in per cent; None where there are too few trips to tell."""

_LATENCIES: Final = tuple(
    name.replace("_", ".") for name in Histogram().figures(*PERCENTS) if name != "count"
)

_COUNTS: Final = (
    "sent",
    "received",
    "lost",
    "late",
    "duplicate",
    "stray",
    "dropped_here",
    "reconnects",
    "outages",
)
"""What both have under the same name."""

_BOTH: Final = {
    **dict.fromkeys((*_LATENCIES, "outage"), TIME),
    "loss": SHARE,
    **dict.fromkeys((*_COUNTS, "failures", *FailureCause), COUNT),
    "subflows": SUBFLOWS,
}

PING: Final[Table] = _BOTH | {
    "mdev": TIME,
    "jitter": TIME,
    "missed": COUNT,
    "retransmits": SEGMENTS,
    "certificate_days": DAYS,
}

LOAD: Final[Table] = _BOTH | {
    **{f"{which}.{name}": TIME for which in ("service", "response") for name in _LATENCIES},
    "send_lag": TIME,
    "rate": RATE,
    "received_bytes": SIZE,
    "unsent": COUNT,
}

ALSO_CALLED: Final = {
    "loss_percent": "loss",
    **{name.replace(".9", "_9"): name for name in ("p99.9", "service.p99.9", "response.p99.9")},
}
"""Figures as JSON has them, which are as good."""

NEAR: Final = {
    "avg": "mean",
    "average": "mean",
    "median": "p50",
    "errors": "failures",
    "round_trips": "received",
    "bytes": "received_bytes",
    "behind": "send_lag",
}
"""What other programs call them."""


def figures_of_ping(statistics: PingStatistics) -> Figures:
    """Return all that rules of ping can be about."""
    return {
        **_figures_of_both(statistics),
        # Of these, not every one has cost a probe.
        FailureCause.CORRUPT: statistics.corrupt,
        "mdev": statistics.mdev,
        "jitter": statistics.jitter,
        "missed": statistics.missed,
        "retransmits": None if statistics.tcp is None else statistics.tcp.retransmits,
        "certificate_days": statistics.certificate_days,
    }


def figures_of_load(report: LoadReport) -> Figures:
    """Return all that rules of load and merge can be about."""
    lag = report.send_lag
    return {
        **_figures_of_both(report),
        **_latencies("service.", report.service, report.lost),
        **_latencies("response.", report.response, report.lost),
        "send_lag": lag.max if lag and lag.count else None,
        "rate": report.trips_per_second,
        "received_bytes": report.received_bytes,
        "unsent": report.unsent,
    }


def _figures_of_both(found: PingStatistics | LoadReport) -> Figures:
    longest = found.longest_outage
    return {
        **{cause: found.failures.get(cause, 0) for cause in FailureCause},
        **{name: getattr(found, name) for name in _COUNTS},
        "failures": found.failed,
        "subflows": None if found.mptcp is None else found.mptcp.subflows,
        "loss": found.loss,
        "outage": 0 if longest is None else nanoseconds(longest.seconds),
        **_latencies("", found.latency, found.lost),
    }


def _latencies(prefix: str, histogram: Histogram | None, lost: int) -> Figures:
    figures = (histogram or Histogram()).figures(*PERCENTS, lost=lost)
    return {prefix + name.replace("_", "."): figures[name] for name in figures}


def listed(table: Table) -> Iterable[tuple[Dimension, list[str]]]:
    """Return which figures of a table have which dimension."""
    for dimension in DIMENSIONS:
        names = [name for name, found in table.items() if found is dimension]
        if names:
            yield dimension, names
