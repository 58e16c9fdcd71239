"""The report of a load as text: lines and tables for people."""

from __future__ import annotations

import bisect
import collections
import io
import re
from collections.abc import Iterator
from typing import IO, Final

from rich.padding import Padding
from rich.table import Table

from techo._console import report_console
from techo._load.probe_text import probe_lines, probe_table
from techo._load.report import OF_NO_TRIP, TIMES, LoadReport
from techo._probing.arrivals import Arrivals
from techo._probing.failure_cause import NEVER_REACHED
from techo._probing.histogram import Histogram
from techo._probing.text import (
    WIDTH,
    counted,
    decimal,
    dropped_in_words,
    fitted,
    milliseconds,
    mptcp_in_words,
    number_of,
    outages_in_words,
    some,
    where,
)

_PERCENTS: Final = (50, 90, 99, 99.9)
"""Percentiles that are shown; a line has no room for all."""
_MILLISECOND: Final = 1_000_000
_MEGA: Final = 1_000_000
_BAR: Final = 40
"""Columns of the longest bar, if there is room for it."""
_INDENT: Final = 2
"""Columns before a table."""
_BAR_MARK: Final = "━"
_BLANKS: Final = re.compile(r" +(\x1b\[0m)?$", re.MULTILINE)
"""Those at the end of a line, and before the end of its style."""
_WITHOUT_CONNECTIONS: Final = ("udp:", "unixgram:")
"""How endpoints begin for which a socket is opened, and nothing else."""
_STEPS: Final = (1, 2, 5)
"""The bounds of the histogram's rows are these, times a power of ten: few, and easy to read."""


def text_of(report: LoadReport) -> str:
    """Return all of it, without colours."""
    file = io.StringIO()
    show(report, file, colours=False)
    return file.getvalue().rstrip("\n")


def show(report: LoadReport, file: IO[str], *, colours: bool) -> None:
    """Print all of it, in as many columns as it takes; with colours if `file` has them."""
    console = report_console(file, colours=colours)
    for line in fitted(_counts(report)):
        console.print(line, soft_wrap=True)
    tables = [_parts(report)] if report.parts else []
    if report.latency.count:
        tables += [_times(report), _histogram(report, console.encoding)]
    if report.probe is not None:
        tables.append(probe_table(report.probe))
    for each in tables:
        console.print()
        with console.capture() as capture:
            console.print(Padding(each, (0, 0, 0, _INDENT), expand=False))
        # Tables are filled with blanks, which stand in the way where a text is kept.
        file.write(_BLANKS.sub(r"\1", capture.get()))
    if report.probe is not None:
        for line in fitted(probe_lines(report.probe)):
            console.print(line, soft_wrap=True)


def _counts(report: LoadReport) -> Iterator[str]:
    over = number_of(report.connections, "connection")
    every = report.reconnect_every
    renewed = "" if every is None else f"each replaced after {number_of(every, 'trip')}"
    pipeline = "" if report.pipeline == 1 else f"up to {report.pipeline:,} in flight on each"
    place, size = where(report.endpoint, report.address), number_of(report.size, "byte")
    yield f"{place}: {over} x {size}"
    if plan := ", ".join(filter(None, (renewed, pipeline, *_wanted(report)))):
        yield plan
    rate = report.trips_per_second
    megabits = 8 * rate * report.received_bytes / max(1, report.received) / _MEGA
    yield (
        f"{number_of(report.received, 'round trip')} in {report.seconds:.3f} s: "
        f"{rate:,.1f}/s, {decimal(megabits)} Mbit/s"
    )
    if report.reconnect_every is not None:
        opened = number_of(report.connects, _opened(report.endpoint))
        yield f"{opened} opened: {report.connects_per_second:,.1f}/s"
    if report.gave_up_after_seconds is not None:
        when = f"gave up after {report.gave_up_after_seconds:.3f} s: nothing came back"
        yield f"the first {when} to it" if report.parts else f"{when} any more"
    loss = "" if report.loss is None else f" ({report.loss:.4g} %)"
    others = some(
        *((getattr(report, name), name) for name in ("late", "duplicate", "unsent", "stray")),
        (report.reconnects, "reconnect" + "s" * (report.reconnects != 1)),
        (report.in_flight, "in flight"),
    )
    yield f"{report.lost:,} lost{loss}" + f", {others}" * bool(others)
    if report.dropped_here:
        yield dropped_in_words(report.dropped_here, report.lost)
    if report.mptcp is not None:
        yield mptcp_in_words(report.mptcp)
    if report.longest_outage is not None:
        outages = report.outages, report.outage_seconds
        yield outages_in_words(*outages, report.longest_outage)
    reached = NEVER_REACHED.isdisjoint(report.failures)
    dead = sum(each.unsent for each in report.parts if each.died)
    if report.unsent > dead and report.rate is not None and reached:
        yield "unsent: no connection was free; try more of them, or a longer pipeline"
    if report.failures:
        yield f"failures: {counted(report.failures)}"
        yield from (f"  {cause}: {text}" for cause, text in report.reasons.items())
    yield _client(report)
    yield from (f"{each.name} died: {each.died}" for each in report.parts if each.died)
    errors = [each.clock_error for each in report.parts if each.clock_error is not None]
    if errors and report.seconds:
        yield f"begun at one moment, to within {max(errors) * 1000:,.3f} ms of each clock"


def _opened(endpoints: str) -> str:
    """Return what is opened for each connection of a load."""
    datagrams = all(each.startswith(_WITHOUT_CONNECTIONS) for each in endpoints.split(", "))
    return "socket" if datagrams else "connection"


def _wanted(report: LoadReport) -> Iterator[str]:
    """Yield when trips were due or, without a rate, connections began."""
    ramp = report.ramp_seconds
    if report.rate is None:
        if ramp is not None:
            yield f"begun one after the other within {ramp:g} s"
        return
    yield f"{report.rate:,.10g} trips/s wanted"
    if ramp is not None:
        yield f"rising from 0 for {ramp:g} s"
    if report.arrivals is Arrivals.POISSON:
        several = "s" * (len(report.seeds) > 1)
        yield f"poisson arrivals, seed{several} {', '.join(map(str, report.seeds))}"


def _client(report: LoadReport) -> str:
    used = f"client CPU {report.client_cpu_seconds:.2f} s"
    if report.client_cpu_percent is not None:
        most = " at most" * bool(report.parts)
        used += f", {report.client_cpu_percent:.0f} % of a core{most}"
    if report.client_was_limit:
        limits = ", ".join(each.name for each in report.parts if each.client_was_limit)
        limit = f"{limits} WAS ITS OWN LIMIT" if limits else "THE CLIENT WAS THE LIMIT"
        used += f": {limit}; share the load among more of them (--processes, techo merge)"
    return used


def _parts(report: LoadReport) -> Table:
    """Return a table of what each process or machine had."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    clocks = any(each.clock_offset is not None for each in report.parts)
    for name in ("received", "lost", "unsent", "p50 ms", "p99 ms", "CPU %"):
        table.add_column(name, justify="right")
    if clocks:
        table.add_column("clock s", justify="right")
    for each in report.parts:
        used, offset = each.client_cpu_percent, each.clock_offset
        table.add_row(
            each.name,
            *(f"{count:,}" for count in (each.received, each.lost, each.unsent)),
            *map(milliseconds, (each.p50, each.p99)),
            "-" if used is None else f"{used:.0f}",
            *(["-" if offset is None else f"{offset:+,.3f}"] if clocks else []),
        )
    return table


def _times(report: LoadReport) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ms")
    columns = [("n", "min", "mean", *(f"p{percent}" for percent in _PERCENTS), "max")]
    for name in TIMES:
        histogram: Histogram | None = getattr(report, name)
        if histogram is not None and (name != "connect" or histogram.count):
            table.add_column(name.replace("_", " "), justify="right")
            lost = 0 if name in OF_NO_TRIP else report.lost
            percentiles = [histogram.percentile(each, lost=lost) for each in _PERCENTS]
            times = [histogram.min, histogram.mean, *percentiles, histogram.max]
            columns.append((f"{histogram.count:,}", *map(milliseconds, times)))
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _histogram(report: LoadReport, encoding: str) -> Table:
    histogram = report.latency
    title = "service time, ms" if report.response is None else "response time, ms"
    table = Table(box=None, pad_edge=False, show_header=False, title=title)
    table.title_justify, table.title_style = "left", "bold"
    for justify in ("right", "left", "right", "right", "left"):
        table.add_column(justify=justify)
    mark = _BAR_MARK if _has(encoding, _BAR_MARK) else "#"
    rows = rows_of(histogram)
    most = max(count for *_, count in rows)
    cells = [
        (
            _bound(low),
            f"- {_bound(high)}",
            f"{count:,}",
            f"{100 * count / histogram.count:.1f} %",
        )
        for low, high, count in rows
    ]
    taken = sum(2 + max(map(len, column)) for column in zip(*cells, strict=True))
    longest = max(1, min(_BAR, WIDTH - _INDENT - taken))
    for texts, (*_, count) in zip(cells, rows, strict=True):
        table.add_row(*texts, mark * round(longest * count / most))
    return table


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _bound(nanoseconds: int) -> str:
    return f"{nanoseconds / _MILLISECOND:,.6g}"


def rows_of(histogram: Histogram) -> list[tuple[int, int, int]]:
    """Return how many durations lie from one bound to below the next, in nanoseconds.

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
