"""What ping prints: a line for each result, statistics so far, a summary; as JSON likewise."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Final

from techo._cli.measuring.verdict import counted
from techo._ping.results import PingReply, PingResult
from techo._ping.statistics import (
    PERCENTS,
    SCHEMA,
    Outage,
    PingStatistics,
    nanoseconds,
)
from techo._probing.histogram import Histogram

_STEPS: Final = {"lookup": "look-up", "connect": "connect", "handshake": "TLS handshake"}


def line_of(endpoint: str, result: PingResult) -> str:
    """Tell a result in a line for people."""
    if isinstance(result, PingReply):
        notes = " (late)" * result.late + " (duplicate)" * result.duplicate
        size, time_ms = _number(result.size, "byte"), f"{result.seconds * 1000:.3f} ms"
        return f"{size} from {endpoint}: seq={result.seq} time={time_ms}{notes}"
    which = "between two probes" if result.seq is None else f"seq={result.seq}"
    return f"no reply from {endpoint}: {which} {result.cause} ({result.reason})"


def object_of(result: PingResult) -> str:
    """Tell a result in a line for machines."""
    if isinstance(result, PingReply):
        fields: dict[str, object] = {
            "event": "reply",
            "seq": result.seq,
            "bytes": result.size,
            "rtt_ns": nanoseconds(result.seconds),
            "late": result.late,
            "duplicate": result.duplicate,
        }
    else:
        fields = {
            "event": "failure",
            "seq": result.seq,
            "cause": result.cause,
            "reason": result.reason,
        }
    return json.dumps({"schema": SCHEMA, **fields, "at_ns": nanoseconds(result.at)})


def so_far(statistics: PingStatistics) -> str:
    """Tell the statistics in a line for people who can't wait."""
    return f"{_counts(statistics)}; {_times(statistics)}"


def summary(statistics: PingStatistics, *, sweep: bool) -> Iterator[str]:
    """Tell the statistics line by line."""
    yield f"--- {statistics.endpoint} ---"
    yield _counts(statistics)
    yield (
        f"{statistics.late} late, {statistics.duplicate} duplicate, "
        f"{statistics.corrupt} corrupt, {_number(statistics.reconnects, 'reconnect')}"
    )
    if statistics.failures:
        yield f"failures: {counted(statistics.failures)}"
    yield _times(statistics)
    if statistics.longest_outage is not None:
        yield _outages(statistics, statistics.longest_outage)
    if statistics.setup:
        yield "; ".join(_step(name, each) for name, each in statistics.setup.items())
    if sweep:
        largest = "none" if statistics.largest is None else f"{statistics.largest} bytes"
        yield f"largest that returned: {largest}"


def _counts(statistics: PingStatistics) -> str:
    loss = "" if statistics.loss is None else f" ({statistics.loss:.4g} %)"
    under_way = f", {statistics.in_flight} under way" if statistics.in_flight else ""
    return (
        f"{statistics.sent} sent, {statistics.received} received, "
        f"{statistics.lost} lost{loss}{under_way}"
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def _times(statistics: PingStatistics) -> str:
    rtt = statistics.rtt
    if not rtt.count:
        return "no round trip times"
    times = [rtt.min, rtt.mean, *map(rtt.percentile, PERCENTS), rtt.max, statistics.mdev]
    shown = "/".join(map(_milliseconds, times))
    jitter = _milliseconds(statistics.jitter)
    return f"min/avg/p50/p95/p99/max/mdev = {shown} ms, jitter {jitter} ms, n = {rtt.count}"


def _milliseconds(nanoseconds: int | None) -> str:
    return "-" if nanoseconds is None else f"{nanoseconds / 1e6:.3f}"


def _step(name: str, durations: Histogram) -> str:
    what = f"{_STEPS[name]} {_milliseconds(durations.mean)} ms"
    if durations.count == 1:
        return what
    return f"{what} (mean of {durations.count}, {_milliseconds(durations.max)} at the most)"


def _outages(statistics: PingStatistics, longest: Outage) -> str:
    until = "the end" if longest.until is None else _clock_time(longest.until)
    count = f"{statistics.outages} outages of {statistics.outage_seconds:.3f} s, the longest"
    return (
        f"{'1 outage' if statistics.outages == 1 else count} of {longest.seconds:.3f} s "
        f"({_number(longest.probes, 'probe')}), from {_clock_time(longest.since)} to {until}"
    )


def _clock_time(at: float) -> str:
    local = dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone()
    return local.isoformat(sep=" ", timespec="milliseconds")
