"""The picture of a report: percentile curves of its times, and how they went over time."""

from __future__ import annotations

import datetime as dt
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from techo._load.interval import Interval
from techo._load.report import LoadReport
from techo._probing.histogram import Histogram
from techo._probing.text import number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MILLISECOND: Final = 1_000_000
_TICKS: Final = {"0": 1, "50 %": 2} | {
    f"{100 * (1 - 10**-nines):.10g} %": 10**nines for nines in range(1, 10)
}
"""Percentiles, and one in how many lies above each."""

_FAR_APART: Final = 50
"""Times as long as the shortest the longest may be, before an axis of both is logarithmic."""

_ROOM: Final = 1.1
"""Times as high as the highest step an axis is, or that would lie on its edge."""

_RED: Final = "tab:red"
"""The colour of what failed, and of nothing else."""

_OVER_TIME: Final = ((50, "tab:green"), (99, "tab:purple"))
"""Percentiles that are drawn over time, and their colours."""


def check_can_plot() -> None:
    """Check before a measurement whether it can be drawn.

    Raises:
        ValueError: matplotlib is not installed; the text says how to.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "--plot needs matplotlib: in the checkout, pip install '.[plot]' (the extra plot)"
        )


def plot(report: LoadReport, intervals: Sequence[Interval], path: Path) -> None:
    """Draw the percentile curves of all times that a report has, and its intervals.

    Raises:
        OSError: the file could not be written.
    """
    figure = figure_of(report, intervals)
    figure.savefig(path, format=path.suffix.lower().removeprefix("."))


def figure_of(report: LoadReport, intervals: Sequence[Interval] = ()) -> Figure:
    """Return the picture: without intervals, it has the percentiles alone."""
    from matplotlib.figure import Figure  # a second that few runs need

    figure = Figure(figsize=(8, 9 if intervals else 5), layout="constrained")
    if not intervals:
        _draw_percentiles(figure.subplots(), report)
        return figure
    percentiles, times, rates = figure.subplots(3, height_ratios=[5, 3, 2])
    _draw_percentiles(percentiles, report)
    _draw_times(times, report, intervals)
    _draw_rates(rates, intervals)
    for axes in (times, rates):
        _shade_outages(axes, report)
        axes.set_xlim(0, _ends(intervals)[-1])
        axes.grid(alpha=0.3)
    times.tick_params(labelbottom=False)
    if times.get_legend_handles_labels()[0]:  # or matplotlib would warn
        times.legend(fontsize="small")
    return figure


def _draw_percentiles(axes: Any, report: LoadReport) -> None:
    for name in ("response", "service"):
        histogram: Histogram | None = getattr(report, name)
        if histogram is not None:
            label = f"{name} time, n = {histogram.count:,}"
            draw_curve(axes, histogram, report.lost, label=label)
    lost = "" if report.loss is None else f" ({report.loss:.4g} %)"
    finish_percentiles(
        axes,
        report.latency.count + report.lost,
        f"{report.endpoint}: {report.trips_per_second:,.0f} round trips/s\n"
        f"{report.connections:,} x {report.size:,} bytes, {report.lost:,} lost{lost}",
    )


def draw_curve(axes: Any, histogram: Histogram, lost: int, **style: Any) -> None:
    """Draw the percentile curve of some times, and of what was lost."""
    # The longest has none above it: there is no place for it on this axis. What was lost is
    # above all: the curve ends where it begins.
    curve = histogram.curve(lost=lost)
    points = [(1 / (1 - share), ns) for share, ns in curve if share < 1]
    ranks, durations = zip(*points, strict=True) if points else ((), ())
    axes.step(ranks, [ns / _MILLISECOND for ns in durations], where="pre", **style)


def finish_percentiles(axes: Any, count: int, title: str) -> None:
    """Put scales for so many trips and a title, which ends in the date, to drawn curves."""
    most = max(10, count)
    ticks = {label: place for label, place in _TICKS.items() if place <= most}
    axes.set_xscale("log")
    axes.set_xlim(1, most)
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("percentile of round trips")
    axes.set_ylabel("time in ms")
    axes.set_title(
        f"{title}, {dt.datetime.now(dt.UTC).astimezone():%Y-%m-%d %H:%M}",
        fontsize="medium",
        parse_math=False,  # an endpoint may have $ in it
    )
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_times(axes: Any, report: LoadReport, intervals: Sequence[Interval]) -> None:
    """Draw p50 and p99 of each interval; there is a gap where it has none, or it was lost."""
    edges, shown = _ends(intervals), list[float]()
    for percent, colour in _OVER_TIME:
        found = [each.percentile(percent) for each in intervals]
        values = [_drawable(each) for each in found]
        if known := [each for each in values if not math.isnan(each)]:
            shown += known
            axes.stairs(values, edges, baseline=None, color=colour, label=f"p{percent}")
    if shown and max(shown) > _FAR_APART * min(shown) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, _ROOM * max(shown, default=1))
    if losing := [each for each in intervals if each.lost]:
        lost = sum(each.lost for each in losing)
        axes.plot(
            [each.begin + each.seconds / 2 for each in losing],
            [1] * len(losing),  # at the upper edge: what was lost is slower than anything
            "x",
            color=_RED,
            clip_on=False,
            label=f"{lost:,} lost",
            transform=axes.get_xaxis_transform(),
        )
    which = "service" if report.response is None else "response"
    axes.set_ylabel(f"{which} time in ms")


def _draw_rates(axes: Any, intervals: Sequence[Interval]) -> None:
    rates = [each.trips_per_second for each in intervals]
    axes.stairs(rates, _ends(intervals), baseline=None, color="tab:blue")
    axes.set_ylim(0, _ROOM * max(rates) or 1)
    axes.set_ylabel("round trips/s")
    length = sorted(each.seconds for each in intervals)[len(intervals) // 2]
    axes.set_xlabel(f"seconds since counting began, in steps of about {length:.2g} s")


def _shade_outages(axes: Any, report: LoadReport) -> None:
    outages = number_of(report.outages, "outage")
    label = f"{outages}, {report.outage_seconds:.3f} s"
    for begin, end in report.outage_spans:
        # The line shows one that is too short to be seen.
        axes.axvspan(begin, end, color=_RED, alpha=0.2, linewidth=1, label=label)
        label = ""  # of the first, for all


def _ends(intervals: Sequence[Interval]) -> list[float]:
    """Return where intervals begin, and where the last ends."""
    return [*(each.begin for each in intervals), intervals[-1].begin + intervals[-1].seconds]


def _drawable(nanoseconds: float | None) -> float:
    """Return milliseconds; no number where there is nothing to draw."""
    if nanoseconds is None or math.isinf(nanoseconds):
        return math.nan
    return nanoseconds / _MILLISECOND
