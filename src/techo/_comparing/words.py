"""A comparison in words: how its figures, changes and verdicts are written for people."""

from __future__ import annotations

import math
from typing import Final

from techo._comparing.comparison import FEWEST, ComparedFigure, Comparison, Verdict
from techo._probing.text import milliseconds

_MOST: Final = 1_000
"""Per cent; of a larger change, how much larger it is says nothing more."""

UNKNOWN: Final = "-"
"""What is shown where there is no number."""

_SHOWN: Final = {Verdict.NOT_SHOWN: "no change shown", Verdict.UNKNOWN: "cannot tell"}

_WORDS: Final = {
    "ns": {Verdict.WORSE: "slower", Verdict.BETTER: "faster"},
    "percent": {Verdict.WORSE: "more lost", Verdict.BETTER: "less lost"},
    "per_second": {Verdict.WORSE: "slower", Verdict.BETTER: "faster"},
}
"""Verdicts in words, by what a figure is."""


def in_words(figure: ComparedFigure) -> str:
    """Return the verdict as people read it."""
    return (_WORDS[figure.unit] | _SHOWN)[figure.verdict]


def amount(figure: ComparedFigure, value: float | None) -> str:
    """Return a value of the figure without its unit; times are in milliseconds."""
    if figure.unit == "ns" or value is None:
        return milliseconds(value)
    return f"{value:,.4g}" if figure.unit == "percent" else f"{value:,.1f}"


def change(figure: ComparedFigure) -> str:
    """Return by how much the figure has changed; what is or was lost has no percentage."""
    if figure.change is None or math.inf in {figure.before, figure.change}:
        return UNKNOWN
    return f"{_signed(figure, figure.change)} {_of(figure)}"


def interval(figure: ComparedFigure) -> str:
    """Return what the change can be for all that is known."""
    if figure.low is None or figure.high is None:
        return UNKNOWN
    low, high = (_signed(figure, each) for each in (figure.low, figure.high))
    return f"{low} to {high} {_of(figure)}"


def too_few(comparison: Comparison) -> str:
    """Return why nothing is known of a comparison that has too few runs."""
    counts = f"{len(comparison.before)} before and {len(comparison.after)} after"
    return (
        f"cannot tell: it takes {FEWEST} runs on each side, and there are {counts}; take more"
    )


def _signed(figure: ComparedFigure, change: float) -> str:
    if figure.unit == "percent":
        return f"{change:+.3g}" if change else "0"
    if change > _MOST:
        return f"over +{_MOST:,}"
    return f"{change:+,.1f}" if round(change, 1) else "0.0"


def _of(figure: ComparedFigure) -> str:
    return "points" if figure.unit == "percent" else "%"
