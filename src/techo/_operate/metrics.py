"""Metrics: a service's counters as Prometheus reads them (extra "metrics").

The service counts in plain numbers; families are made of them when somebody asks. Names and
units follow Prometheus' conventions: base units, totals end in _total.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from techo._operate.counting import BOUNDS, Counters, Durations
from techo._operate.process_figures import ProcessCollector
from techo._server.registry import Statistics


@attrs.define(eq=False)
class ServiceCollector(Collector):
    """Makes metric families of the counters of a service, or of several together."""

    count: Callable[[], Counters]
    version: str

    def collect(self) -> Iterator[Metric]:
        """Yield each family once; the cost does not depend on how often it counted."""
        counters = self.count()
        found = counters.statistics
        yield InfoMetricFamily("techo_build", "What is running.", {"version": self.version})
        yield from _connections(found)
        yield _lasted(counters.durations)
        yield _total("techo_chunks", "Chunks received over connections.", found.chunks)
        yield _total("techo_received_bytes", "Received over connections.", found.bytes_in)
        yield _total("techo_sent_bytes", "Sent over connections.", found.bytes_out)
        yield from _datagrams(found)


def _connections(found: Statistics) -> Iterator[Metric]:
    yield _total("techo_accepted_connections", "Connections accepted.", found.accepted)
    about = "Connections that are over, by how."
    yield _totals("techo_connections", about, "outcome", found.outcomes)
    yield GaugeMetricFamily(
        "techo_active_connections", "Connections that are not over.", found.active
    )
    yield GaugeMetricFamily(
        "techo_parked_connections", "Of these, how many wait for a place.", found.parked
    )


def _lasted(durations: Durations) -> Metric:
    family = HistogramMetricFamily(
        "techo_connection_duration_seconds", "How long connections lasted that are over."
    )
    bounds = [*map(str, BOUNDS), "+Inf"]
    sums = itertools.accumulate(durations.counts)
    family.add_metric([], list(zip(bounds, sums, strict=True)), durations.seconds)
    return family


def _datagrams(found: Statistics) -> Iterator[Metric]:
    datagrams = found.datagrams
    yield _total("techo_received_datagrams", "Datagrams received.", datagrams.received)
    yield _total("techo_echoed_datagrams", "Datagrams answered.", datagrams.echoed)
    about = "Datagrams that a socket had no room for, and nobody received."
    yield _total("techo_missed_datagrams", about, datagrams.dropped_here)
    about = "Datagrams not answered, by why."
    yield _totals("techo_dropped_datagrams", about, "reason", datagrams.dropped)
    yield _total("techo_datagram_received_bytes", "Received as datagrams.", datagrams.bytes_in)
    yield _total("techo_datagram_sent_bytes", "Sent as datagrams.", datagrams.bytes_out)


def _total(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_text, value)


def _totals(name: str, help_text: str, label: str, counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value, count in counts.items():
        family.add_metric([str(value)], count)
    return family


_OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"


def format_of(accept: str) -> str:
    """Return the Accept header of the one of two formats that another such header is for.

    The variants beside these differ in names such as ours are not. What makes no sense, as a
    version without numbers, is for the plain text.
    """
    try:
        content_type = choose_encoder(accept)[1]
    except (TypeError, ValueError):
        return ""
    return _OPEN_METRICS if "openmetrics" in content_type else ""


def exposition(collector: Collector) -> Callable[[str], tuple[bytes, str]]:
    """Return what makes the text, and its content type, for an Accept header.

    That of this process is with it: memory, descriptors, CPU time.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    registry.register(ProcessCollector())

    def expose(accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(format_of(accept))
        return encode(registry), content_type

    return expose
