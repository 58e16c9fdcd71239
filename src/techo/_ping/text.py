"""What ping says to people: a line for each result, the summary and the table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from techo._kernel.dscp import name_of_dscp, name_of_ecn
from techo._ping.results import PingReply, PingResult
from techo._ping.statistics import PingStatistics
from techo._probing.histogram import Histogram
from techo._probing.text import (
    WIDTH,
    counted,
    dropped_in_words,
    milliseconds,
    mptcp_in_words,
    number_of,
    outages_in_words,
    some,
    tcp_in_words,
    where,
)
from techo._probing.trip import Clock

_PERCENTS: Final = (50, 90, 99)
"""Percentiles that are shown, as load shows them; a line has no room for all."""
_CELL: Final = 7
"""Characters of a time in the table, from which on it has fewer decimals."""
_STEPS: Final = {"lookup": "look-up", "connect": "connect", "handshake": "TLS handshake"}


def line_of(
    endpoint: str,
    result: PingResult,
    before: Clock | None = None,
    *,
    connect: bool = False,
    verbose: bool = False,
) -> str:
    """Return a result as a line for people; with `connect` it is that of connecting.

    It has the clock of a reply, if that is not the one `before`; with `verbose` also what the
    reply's packet had.
    """
    if isinstance(result, PingReply):
        notes = " (late)" * result.late + " (duplicate)" * result.duplicate
        if before is not None and result.clock is not before:
            notes += f" (clock {result.clock})"
        if verbose:
            notes += _headers(result)
        size, time_ms = number_of(result.size, "byte"), f"{result.seconds * 1000:.3f} ms"
        what = f"connected to {endpoint}" if connect else f"{size} from {endpoint}"
        return f"{what}: seq={result.seq} time={time_ms}{notes}"
    which = "between two probes" if result.seq is None else f"seq={result.seq}"
    what = "connection to" if connect else "reply from"
    return f"no {what} {endpoint}: {which} {result.cause} ({result.reason})"


def _headers(reply: PingReply) -> str:
    """Return what the packet of a reply had, as far as that is known."""
    if reply.ttl is None:
        return ""
    known = {
        "ttl": reply.ttl,
        "hops": reply.hops,
        "dscp": None if reply.dscp is None else name_of_dscp(reply.dscp),
        "ecn": name_of_ecn(reply.ecn or 0) or None,
    }
    return "".join(f" {name}={value}" for name, value in known.items() if value is not None)


def summary_of(statistics: PingStatistics, *, sweep: bool) -> Iterator[str]:
    """Return the statistics as lines for people."""
    yield f"--- {where(statistics.endpoint, statistics.address)} ---"
    yield counts_of(statistics)
    names = ("late", "duplicate", "corrupt", "missed", "stray")
    reconnects = statistics.reconnects, "reconnect" + "s" * (statistics.reconnects != 1)
    if others := some(*((getattr(statistics, name), name) for name in names), reconnects):
        yield others
    if statistics.dropped_here:
        yield dropped_in_words(statistics.dropped_here, statistics.lost)
    if statistics.failures:
        yield f"failures: {counted(statistics.failures)}"
    if statistics.longest_outage is not None:
        outages = statistics.outages, statistics.outage_seconds
        yield outages_in_words(*outages, statistics.longest_outage)
    yield from _connection(statistics)
    if sweep:
        largest = (
            "none" if statistics.largest is None else number_of(statistics.largest, "byte")
        )
        yield f"largest that returned: {largest}"


def _connection(statistics: PingStatistics) -> Iterator[str]:
    """Return what was found out about the connection, as lines for people."""
    if statistics.setup:
        yield ", ".join(_step(name, each) for name, each in statistics.setup.items())
    if statistics.path_mtu is not None:
        knows = statistics.path_mtu_from
        says = f"says {knows}" if knows else "as was known here"
        yield f"the way takes packets of {number_of(statistics.path_mtu, 'byte')}, {says}"
    if statistics.certificate_end is not None:
        yield _certificate(statistics.certificate_end, statistics.certificate_days or 0)
    if statistics.mptcp is not None:
        yield mptcp_in_words(statistics.mptcp)


def _certificate(end: float, days: int) -> str:
    date = dt.datetime.fromtimestamp(end, tz=dt.UTC).date()
    if days < 0:
        return f"the certificate expired on {date}"
    return f"the certificate ends on {date}, in {number_of(days, 'day')}"


def counts_of(statistics: PingStatistics) -> str:
    """Return how many were sent, received and lost, as a line for people."""
    loss = "" if statistics.loss is None else f" ({statistics.loss:.4g} %)"
    in_flight = f", {statistics.in_flight:,} in flight" if statistics.in_flight else ""
    return (
        f"{statistics.sent:,} sent, {statistics.received:,} received, "
        f"{statistics.lost:,} lost{loss}{in_flight}"
    )


def table_of(statistics: PingStatistics, *, connect: bool = False) -> Iterator[str]:
    """Return the round trip times as a table of what there are enough of to tell."""
    times, what = statistics.latency, "connecting" if connect else "round trips"
    if not times.count:
        yield "no connection times" if connect else "no round trip times"
        return
    figures = {
        **_times(times, statistics.lost),
        "mdev": statistics.mdev if times.count > 1 else None,
        "jitter": statistics.jitter,
    }
    rows = [{name: _short(each) for name, each in figures.items() if each is not None}]
    if statistics.client.count:
        own = _times(statistics.client, 0)
        shares = {name: own[name] for name in own if name in rows[0]}
        rows.append(
            {name: "-" if each is None else _short(each) for name, each in shares.items()}
        )
    # One column between them if that is all there is room for.
    longest = max(max(map(len, (*row, *row.values()))) for row in rows)
    width = min(2 + longest, WIDTH // len(rows[0]))
    yield f"{what} in ms, n = {times.count:,}, clock {_clocks(statistics)}:"
    yield "".join(f"{name:>{width}}" for name in rows[0])
    yield "".join(f"{text:>{width}}" for text in rows[0].values())
    for row in rows[1:]:
        yield "client, which these are without:"
        yield "".join(f"{text:>{width}}" for text in row.values())
    if statistics.tcp is not None:
        yield tcp_in_words(statistics.tcp)


def _times(histogram: Histogram, lost: int) -> dict[str, float | None]:
    """Return what a row shows of times; None for what there are too few of."""
    percentiles = {f"p{each:g}": histogram.percentile(each, lost=lost) for each in _PERCENTS}
    return {
        "min": histogram.min,
        "mean": histogram.mean,
        **percentiles,
        "max": histogram.max,
    }


def _clocks(statistics: PingStatistics) -> str:
    """Return which clock timed the round trips, and how many if both did."""
    clocks = statistics.clocks
    if len(clocks) == 1:
        return next(iter(clocks))
    return ", ".join(f"{clock} {count:,}" for clock, count in clocks.items())


def _short(nanoseconds: float) -> str:
    """Return milliseconds in six characters, unless they are many."""
    text = milliseconds(nanoseconds)
    for decimals in (1, 0):
        if len(text) >= _CELL:
            text = f"{nanoseconds / 1e6:.{decimals}f}"
    return text


def _step(name: str, durations: Histogram) -> str:
    what = f"{_STEPS[name]} {milliseconds(durations.mean)} ms"
    if durations.count == 1:
        return what
    return f"{what} (mean of {durations.count}, {milliseconds(durations.max)} at the most)"
