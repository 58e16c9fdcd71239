"""What load and merge print of a report: counts, a table of times, a histogram to look at."""

from __future__ import annotations

import bisect
import collections
import sys
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from techo._cli.measuring.verdict import counted
from techo._load.report import PERCENTS, LoadReport
from techo._probing.causes import NEVER_REACHED
from techo._probing.histogram import Histogram

_MILLISECOND: Final = 1_000_000
_LONG: Final = 100
"""What is more needs no thousandths, be it milliseconds or megabytes."""
_MEGA: Final = 1_000_000
_BAR: Final = 40
"""Columns of the longest bar: with what stands before it, a line has less than 80."""
_LEAST_WIDTH: Final = 100
"""Columns that are taken to be there: a narrow terminal wraps lines, and cuts no figure."""
_STEPS: Final = (1, 2, 5)
"""The bounds of the histogram's rows are these, times a power of ten: few, and easy to read."""


def print_report(report: LoadReport) -> None:
    """Print all of it to standard output, in colours on a terminal (but see NO_COLOR)."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, _LEAST_WIDTH)
    for line in _counts(report):
        console.print(line, soft_wrap=True)
    if report.latency.count:
        for each in (_times(report), _histogram(report)):
            console.print()
            console.print(Padding(each, (0, 0, 0, 2), expand=False))


def _counts(report: LoadReport) -> Iterator[str]:
    over = _number(report.connections, "connection")
    wanted = "" if report.rate is None else f", {report.rate:,.10g} trips/s wanted"
    pipeline = "" if report.pipeline == 1 else f", up to {report.pipeline:,} under way on each"
    yield f"{report.endpoint}: {over} x {_number(report.size, 'byte')}{pipeline}{wanted}"
    rate = report.round_trips_per_second
    megabytes = rate * report.bytes / max(1, report.round_trips) / _MEGA
    yield (
        f"{_number(report.round_trips, 'round trip')} in {report.seconds:.3f} s: "
        f"{rate:,.1f}/s, {megabytes:,.{0 if megabytes >= _LONG else 3}f} MB/s each way"
    )
    loss = "" if report.loss is None else f" ({report.loss:.4g} %)"
    under_way = f", {report.in_flight:,} under way" * bool(report.in_flight)
    yield (
        f"{report.lost:,} lost{loss}, {report.late:,} late, {report.duplicate:,} duplicate, "
        f"{report.unsent:,} unsent, {_number(report.reconnects, 'reconnect')}{under_way}"
    )
    reached = NEVER_REACHED.isdisjoint(report.errors)
    if report.unsent and report.rate is not None and reached:
        yield "unsent: no connection was free; try more of them, or a longer pipeline"
    if report.errors:
        yield f"errors: {counted(report.errors)}"
        yield from (f"  {cause}: {text}" for cause, text in report.reasons.items())
    yield _client(report)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)


def _client(report: LoadReport) -> str:
    used = f"client CPU {report.client_cpu_seconds:.2f} s"
    if report.client_cpu_share is not None:
        used += f", {100 * report.client_cpu_share:.0f} % of a core"
    if report.client_was_limit:
        used += ": THE CLIENT WAS THE LIMIT; share the load among more of them (techo merge)"
    return used


def _times(report: LoadReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ms")
    for heading in ("n", "min", "mean", *(f"p{percent}" for percent in PERCENTS), "max"):
        table.add_column(heading, justify="right")
    for name in ("service", "response", "behind"):
        histogram: Histogram | None = getattr(report, name)
        if histogram is not None:
            percentiles = map(histogram.percentile, PERCENTS)
            times = [histogram.min, histogram.mean, *percentiles, histogram.max]
            table.add_row(name, f"{histogram.count:,}", *map(_milliseconds, times))
    return table


def _milliseconds(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return "-"
    milliseconds = nanoseconds / _MILLISECOND
    decimals = 3 if milliseconds < _LONG else 1
    return f"{milliseconds:,.{decimals}f}"


def _histogram(report: LoadReport) -> Table:
    histogram = report.latency
    title = "service time, ms" if report.response is None else "response time, ms"
    table = Table(box=None, pad_edge=False, show_header=False, title=title)
    table.title_justify, table.title_style = "left", "bold"
    for justify in ("right", "left", "right", "right", "left"):
        table.add_column(justify=justify)
    rows = rows_of(histogram)
    most = max(count for *_, count in rows)
    for low, high, count in rows:
        share = f"{100 * count / histogram.count:.1f} %"
        bar = "━" * round(_BAR * count / most)
        table.add_row(_bound(low), f"- {_bound(high)}", f"{count:,}", share, bar)
    return table


def _bound(nanoseconds: int) -> str:
    return f"{nanoseconds / _MILLISECOND:,.6g}"


def rows_of(histogram: Histogram) -> list[tuple[int, int, int]]:
    """Give how many durations lie from one bound to below the next, in nanoseconds.

    Bounds are 0, and 1, 2 or 5 times a power of ten from a microsecond on. The first row has
    the least duration and the last the most.
    """
    bounds = [0, *(step * 10**power for power in range(3, 19) for step in _STEPS)]
    counts: collections.Counter[int] = collections.Counter()
    for duration, count in histogram.durations():
        counts[bisect.bisect_right(bounds, duration)] += count
    return [
        (bounds[upper - 1], bounds[upper], counts[upper])
        for upper in range(min(counts), max(counts) + 1)
    ]
