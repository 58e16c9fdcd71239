"""What load and merge do with a report: print or keep it, draw it, and judge it."""

from __future__ import annotations

import argparse
import bisect
import collections
import datetime as dt
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from techo._cli.errors import counted, fail, fell_short, never_reached, where
from techo._cli.options import option
from techo._cli.output import print_lines, writing
from techo._cli.plot import check_can_plot, plot
from techo._cli.readers import Form
from techo._cli.rules import LOAD, Rule, any_fired, rules_about
from techo._load.report import PERCENTS, TIMES, LoadReport
from techo._probing.failure_cause import NEVER_REACHED, FailureCause
from techo._probing.histogram import Histogram, nanoseconds
from techo._probing.outages import Outage
from techo._validation import quoted
from techo.endpoint import Endpoint

if TYPE_CHECKING:
    from rich.table import Table

STANDARD_OUTPUT: Final = "-"
"""Stands for it where a file could be named."""

_PICTURES: Final = {".svg", ".png"}
"""What can be drawn."""
_MILLISECOND: Final = 1_000_000
_LONG: Final = 100
"""What is more needs no thousandths, be it milliseconds or megabytes."""
_MEGA: Final = 1_000_000
_BAR: Final = 40
"""Columns of the longest bar: with what stands before it, a line has less than 80."""
_BAR_MARK: Final = "━"
_LEAST_WIDTH: Final = 100
"""Columns that are taken to be there: a narrow terminal wraps lines, and cuts no figure."""
_STEPS: Final = (1, 2, 5)
"""The bounds of the histogram's rows are these, times a power of ten: few, and easy to read."""


def _read_report_file(text: str) -> str:
    """Read the name of a file to write a report to, or what stands for standard output.

    Raises:
        ValueError: it could not be written, or is more likely meant as the endpoint.
    """
    if text == STANDARD_OUTPUT:
        return text
    try:
        Endpoint.parse(text)
    except ValueError:
        return _check_writable(text)
    raise ValueError(
        f"{quoted(text)} is an endpoint; write ENDPOINT --json, or --json=./{text} for a file"
    )


def _read_picture(text: str) -> str:
    if Path(text).suffix.lower() not in _PICTURES:
        raise ValueError(f"{quoted(text)} is neither .svg nor .png")
    return _check_writable(text)


def _check_writable(text: str) -> str:
    """Check before a measurement, without changing what is there, what would lose it."""
    path = Path(text)
    if not text:
        raise ValueError("'' is not the name of a file")
    if path.is_dir():
        raise ValueError(f"cannot write {quoted(text)}: it is a folder")
    if not path.parent.is_dir():
        raise ValueError(
            f"cannot write {quoted(text)}: there is no folder {quoted(str(path.parent))}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"cannot write {quoted(text)}: permission denied")
    return text


REPORT_FILE: Final = Form("FILE", _read_report_file)

REPORT_OPTIONS: Final = (
    option(
        "--plot",
        Form("FILE", _read_picture),
        "draw the percentiles there, as .svg or .png; needs the extra plot",
        shown="no",
    ),
    rules_about(LOAD),
)
"""What load and merge have in common: to draw a report, and to judge it."""


def check_deliverable(options: argparse.Namespace, *, scheduled: bool) -> None:
    """Check before a measurement what could not be done with its report.

    Raises:
        ValueError: something is not installed, or a rule is about what is not measured.
    """
    if options.plot is not None:
        check_can_plot()
        if options.json and os.path.realpath(options.json) == os.path.realpath(options.plot):
            raise ValueError(
                f"--plot and --json both name {quoted(options.plot)}; give two files"
            )
    for rule in options.fail_if:
        if not scheduled and rule.name.startswith(("response.", "behind")):
            raise ValueError(
                f"rule {quoted(rule.text)}: without --rate there is no {rule.name}, only "
                "service time"
            )


def deliver(report: LoadReport, options: argparse.Namespace) -> int:
    """Do with a report what the options say; return the exit code for it."""
    text = json.dumps(report.to_json())
    written = True
    # Files first: standard output may be gone, and must not cost what was to be kept.
    if options.json not in {None, STANDARD_OUTPUT}:
        written &= _write(options.json, lambda path: path.write_text(text + "\n"))
    if options.plot is not None:
        written &= _write(options.plot, lambda path: plot(report, path))
    if options.json == STANDARD_OUTPUT:
        print_lines(text)
    else:
        with writing():
            _print(report)
            sys.stdout.flush()
    return _verdict(report, options.fail_if) or (0 if written else 1)


def _write(name: str, write: Callable[[Path], object]) -> bool:
    try:
        write(Path(name))
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        fail(f"cannot write {quoted(name)}: {reason}")
        return False
    return True


def _verdict(report: LoadReport, rules: Sequence[Rule]) -> int:
    """Report what was bad, if anything was, and return the exit code."""
    if short := report.errors.get(FailureCause.LOCAL):
        reason = report.reasons.get(FailureCause.LOCAL, "")
        return fell_short(report.endpoint, short, reason)
    if report.never_reached:
        return never_reached(report.endpoint, report.errors)
    fired = any_fired(rules, _figures(report))
    if report.failed:
        return fail(f"{_number(report.failed, 'error')} ({counted(report.errors)})")
    if not report.round_trips:
        return fail("nothing came back" if report.lost else "nothing was counted")
    return int(fired)


def _figures(report: LoadReport) -> Mapping[str, float | None]:
    """Return the figures that rules are about: times in nanoseconds, the loss in per cent."""
    counts = (
        "round_trips",
        "bytes",
        "lost",
        "reconnects",
        "unsent",
        "late",
        "duplicate",
        "stray",
    )
    longest = report.longest_outage
    return {
        **{cause: report.errors.get(cause, 0) for cause in FailureCause},
        **{name: getattr(report, name) for name in counts},
        "errors": report.failed,
        "loss": report.loss,
        "rate": report.round_trips_per_second,
        "outage": 0 if longest is None else nanoseconds(longest.seconds),
        **_figures_of("", report.latency, report.lost),
        **_figures_of("service.", report.service, report.lost),
        **_figures_of("response.", report.response, report.lost),
        "behind": report.send_lag.max if report.send_lag and report.send_lag.count else None,
    }


def _figures_of(
    prefix: str, histogram: Histogram | None, lost: int
) -> Mapping[str, float | None]:
    figures = (histogram or Histogram()).figures(*PERCENTS, lost=lost)
    return {prefix + name.replace("_", "."): each for name, each in figures.items()}


def _print(report: LoadReport) -> None:
    """Print all of it to standard output, in colours on a terminal unless NO_COLOR is set."""
    from rich.console import Console
    from rich.padding import Padding

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
    pipeline = "" if report.pipeline == 1 else f", up to {report.pipeline:,} in flight on each"
    place, size = where(report.endpoint, report.address), _number(report.size, "byte")
    yield f"{place}: {over} x {size}{pipeline}{wanted}"
    rate = report.round_trips_per_second
    megabytes = rate * report.bytes / max(1, report.round_trips) / _MEGA
    yield (
        f"{_number(report.round_trips, 'round trip')} in {report.seconds:.3f} s: "
        f"{rate:,.1f}/s, {megabytes:,.{0 if megabytes >= _LONG else 3}f} MB/s each way"
    )
    loss = "" if report.loss is None else f" ({report.loss:.4g} %)"
    stray = f", {report.stray:,} stray" * bool(report.stray)
    in_flight = f", {report.in_flight:,} in flight" * bool(report.in_flight)
    yield (
        f"{report.lost:,} lost{loss}, {report.late:,} late, {report.duplicate:,} duplicate, "
        f"{report.unsent:,} unsent, {_number(report.reconnects, 'reconnect')}{stray}{in_flight}"
    )
    if report.longest_outage is not None:
        outages = report.outages, report.outage_seconds
        yield outages_in_words(*outages, report.longest_outage)
    reached = NEVER_REACHED.isdisjoint(report.errors)
    if report.unsent and report.rate is not None and reached:
        yield "unsent: no connection was free; try more of them, or a longer pipeline"
    if report.errors:
        yield f"errors: {counted(report.errors)}"
        yield from (f"  {cause}: {text}" for cause, text in report.reasons.items())
    yield _client(report)


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" + "s" * (count != 1)


def outages_in_words(count: int, seconds: float, longest: Outage) -> str:
    """Return outages as a line for people."""
    until = "the end" if longest.until is None else _clock_time(longest.until)
    several = f"{count} outages of {seconds:.3f} s, the longest"
    probes = f" ({_number(longest.probes, 'probe')})" if longest.probes else ""
    return (
        f"{'1 outage' if count == 1 else several} of {longest.seconds:.3f} s{probes}, "
        f"from {_clock_time(longest.since)} to {until}"
    )


def _clock_time(at: float) -> str:
    local = dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone()
    return local.isoformat(sep=" ", timespec="milliseconds")


def _client(report: LoadReport) -> str:
    used = f"client CPU {report.client_cpu_seconds:.2f} s"
    if report.client_cpu_share is not None:
        used += f", {100 * report.client_cpu_share:.0f} % of a core"
    if report.client_was_limit:
        used += ": THE CLIENT WAS THE LIMIT; share the load among more of them (techo merge)"
    return used


def _times(report: LoadReport) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ms")
    for heading in ("n", "min", "mean", *(f"p{percent}" for percent in PERCENTS), "max"):
        table.add_column(heading, justify="right")
    for field, name in TIMES.items():
        histogram: Histogram | None = getattr(report, field)
        if histogram is not None:
            # What was lost was sent all the same: it has no part in how late that was.
            lost = 0 if field == "send_lag" else report.lost
            percentiles = [histogram.percentile(each, lost=lost) for each in PERCENTS]
            times = [histogram.min, histogram.mean, *percentiles, histogram.max]
            table.add_row(name, f"{histogram.count:,}", *map(_milliseconds, times))
    return table


def _milliseconds(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return "-"
    if nanoseconds == math.inf:
        return "lost"
    milliseconds = nanoseconds / _MILLISECOND
    decimals = 3 if milliseconds < _LONG else 1
    return f"{milliseconds:,.{decimals}f}"


def _histogram(report: LoadReport) -> Table:
    from rich.table import Table

    histogram = report.latency
    title = "service time, ms" if report.response is None else "response time, ms"
    table = Table(box=None, pad_edge=False, show_header=False, title=title)
    table.title_justify, table.title_style = "left", "bold"
    for justify in ("right", "left", "right", "right", "left"):
        table.add_column(justify=justify)
    mark = _BAR_MARK if _can_print(_BAR_MARK) else "#"
    rows = rows_of(histogram)
    most = max(count for *_, count in rows)
    for low, high, count in rows:
        share = f"{100 * count / histogram.count:.1f} %"
        bar = mark * round(_BAR * count / most)
        table.add_row(_bound(low), f"- {_bound(high)}", f"{count:,}", share, bar)
    return table


def _can_print(text: str) -> bool:
    """Return whether the encoding of standard output has it."""
    try:
        text.encode(sys.stdout.encoding)
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
