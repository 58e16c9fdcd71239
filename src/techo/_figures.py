"""Figures: what rules find in the results of ping and load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import PERCENTS, Histogram, nanoseconds
from techo._rules import BOTH, PROBED, Figures

if TYPE_CHECKING:
    from techo._load.probe_report import ProbeReport
    from techo._load.report import LoadReport
    from techo._ping.statistics import PingStatistics


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
        **_latencies("connect.", report.connect, 0),
        "connects": report.connects,
        "connect_rate": report.connects_per_second,
        **_figures_of_probe(report.probe),
        "rate": report.trips_per_second,
        "received_bytes": report.received_bytes,
        "unsent": report.unsent,
    }


def _figures_of_probe(probe: ProbeReport | None) -> Figures:
    if probe is None:
        return dict.fromkeys(PROBED)
    found = {
        **_latencies("probe.", probe.loaded.latency, probe.loaded.lost),
        **_latencies("probe.idle.", probe.idle.latency, probe.idle.lost),
        **_latencies("probe.after.", probe.after.latency, probe.after.lost),
        "probe.growth": probe.growth,
        "probe.lost": probe.loaded.lost,
        "responsiveness": probe.round_trips_per_minute,
    }
    return {name: found[name] for name in PROBED}


def _figures_of_both(found: PingStatistics | LoadReport) -> Figures:
    longest = found.longest_outage
    return {
        **{cause: found.failures.get(cause, 0) for cause in FailureCause},
        **{name: getattr(found, name) for name in BOTH},
        "failures": found.failed,
        "subflows": None if found.mptcp is None else found.mptcp.subflows,
        "loss": found.loss,
        "outage": 0 if longest is None else nanoseconds(longest.seconds),
        **_latencies("", found.latency, found.lost),
    }


def _latencies(prefix: str, histogram: Histogram | None, lost: int) -> Figures:
    figures = (histogram or Histogram()).figures(*PERCENTS, lost=lost)
    return {prefix + name.replace("_", "."): figures[name] for name in figures}
