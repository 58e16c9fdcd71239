"""The picture of a comparison: percentile curves of both sides, and of each of their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from techo._cli.plot import draw_curve, finish_percentiles
from techo._comparing.comparison import ComparedFigure, Comparison, endpoints_of
from techo._comparing.words import UNKNOWN, change, in_words
from techo._probing.histogram import Histogram

_COLOURS: Final = ("tab:blue", "tab:orange")
"""Those of the sides."""

_NAMED: Final = ("p50", "p99")
"""Figures whose changes are in the title."""


def plot_sides(comparison: Comparison, path: Path) -> None:
    """Draw one thick curve of all runs of a side together, and a thin one of each.

    Raises:
        OSError: the file could not be written.
    """
    from matplotlib.figure import Figure  # a second that few runs need

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    most = 0
    sides = (("before", comparison.before), ("after", comparison.after))
    for (name, runs), colour in zip(sides, _COLOURS, strict=True):
        whole, lost = Histogram(), 0
        for run in runs:
            draw_curve(axes, run.latency, run.lost, color=colour, alpha=0.35, linewidth=0.6)
            whole.add(run.latency)
            lost += run.lost
        label = f"{name}: {len(runs):,} runs, n = {whole.count:,}, {lost:,} lost"
        draw_curve(axes, whole, lost, label=label, color=colour, linewidth=2)
        most = max(most, whole.count + lost)
    finish_percentiles(axes, most, _title(comparison))
    figure.savefig(path, format=path.suffix.lower().removeprefix("."))


def _title(comparison: Comparison) -> str:
    where = ", ".join(endpoints_of([*comparison.before, *comparison.after]))
    kind = "service time" if comparison.before[0].rate is None else "response time"
    changes = ", ".join(_said_of(comparison.figures[name]) for name in _NAMED)
    return f"{where}: {kind}\n{changes}"


def _said_of(figure: ComparedFigure) -> str:
    found = change(figure)
    known = f" {found} ({in_words(figure)})"
    return figure.name + (f": {in_words(figure)}" if found == UNKNOWN else known)
