"""The picture of a report: percentile curves of its times."""

from __future__ import annotations

import datetime as dt
import importlib.util
from pathlib import Path
from typing import Final

from techo._load.report import LoadReport
from techo._probing.histogram import Histogram

_MILLISECOND: Final = 1_000_000
_TICKS: Final = {"0": 1, "50 %": 2} | {
    f"{100 * (1 - 10**-nines):.10g} %": 10**nines for nines in range(1, 10)
}
"""Percentiles, and one in how many lies above each."""


def check_can_plot() -> None:
    """Check before a measurement whether it can be drawn.

    Raises:
        ValueError: matplotlib is not installed; the text says how to.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "--plot needs matplotlib: in the checkout, pip install '.[plot]' (the extra plot)"
        )


def plot(report: LoadReport, path: Path) -> None:
    """Draw the percentile curves of all times that a report has.

    Raises:
        OSError: the file could not be written.
    """
    from matplotlib.figure import Figure  # a second that few runs need

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name in ("response", "service"):
        histogram: Histogram | None = getattr(report, name)
        if histogram is not None:
            # The longest has none above it: there is no place for it on this axis. What was
            # lost is above all: the curve ends where it begins.
            curve = histogram.curve(lost=report.lost)
            points = [(1 / (1 - share), ns) for share, ns in curve if share < 1]
            ranks, durations = zip(*points, strict=True) if points else ((), ())
            milliseconds = [ns / _MILLISECOND for ns in durations]
            label = f"{name} time, n = {histogram.count:,}"
            axes.step(ranks, milliseconds, where="pre", label=label)
    most = max(10, report.latency.count + report.lost)
    ticks = {label: place for label, place in _TICKS.items() if place <= most}
    axes.set_xscale("log")
    axes.set_xlim(1, most)
    axes.set_xticks(list(ticks.values()), list(ticks))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("percentile of round trips")
    axes.set_ylabel("time in ms")
    lost = "" if report.loss is None else f" ({report.loss:.4g} %)"
    axes.set_title(
        f"{report.endpoint}: {report.trips_per_second:,.0f} round trips/s\n"
        f"{report.connections:,} x {report.size:,} bytes, {report.lost:,} lost{lost}, "
        f"{dt.datetime.now(dt.UTC).astimezone():%Y-%m-%d %H:%M}",
        fontsize="medium",
        parse_math=False,  # an endpoint may have $ in it
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format=path.suffix.lower().removeprefix("."))
