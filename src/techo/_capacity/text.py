"""A search for a capacity as text: a row for each step, and what came of it, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from techo._capacity.report import Capacity, CapacityOutcome
from techo._capacity.step import CapacityStep, StepVerdict
from techo._probing.text import milliseconds, number_of

_WIDTHS: Final = (12, 7, 9, 9, 8)
"""Columns of each figure."""

HEADING: Final = "".join(
    f"{text:>{width}}"
    for text, width in zip(("trips/s", "s", "p50 ms", "p99 ms", "loss %"), _WIDTHS, strict=True)
)
"""What stands above the rows."""

_WORDS: Final = {
    StepVerdict.HELD: "held",
    StepVerdict.FAILED: "FAILED",
    StepVerdict.CLIENT_LIMIT: "client's limit",
    StepVerdict.NEVER_REACHED: "not reached",
}


def per_second(rate: float) -> str:
    """Return a rate for people."""
    return f"{rate:,.10g}/s"


def row_of(step: CapacityStep) -> str:
    """Return the row of a step."""
    report = step.report
    texts = (
        f"{step.rate:,.10g}",
        f"{report.seconds:.1f}",
        milliseconds(report.percentile(50)),
        milliseconds(report.percentile(99)),
        "-" if report.loss is None else f"{report.loss:.3g}",
    )
    cells = "".join(f"{text:>{width}}" for text, width in zip(texts, _WIDTHS, strict=True))
    return f"{cells}  {_verdict(step)}"


def _verdict(step: CapacityStep) -> str:
    words = _WORDS[step.verdict]
    if step.held:
        return f"{words}, confirmed" if step.confirming else words
    if step.verdict is StepVerdict.NEVER_REACHED:
        return words
    return f"{words}: {step.client or '; '.join(step.missed)}"


def text_of(capacity: Capacity) -> str:
    """Return all of it: the steps, and what came of them."""
    rows = [HEADING, *map(row_of, capacity.steps)] if capacity.steps else []
    return "\n".join([*rows, *summary_of(capacity)])


def summary_of(capacity: Capacity) -> Iterator[str]:
    """Yield what came of a search, and how well it is known, in lines."""
    yield _headline(capacity)
    if capacity.rate is not None:
        yield f"  {_evidence(capacity)}"
    if capacity.failed:
        yield f"  {_next_one(capacity)}"


def _headline(capacity: Capacity) -> str:
    slo = " and ".join(capacity.slo)
    if capacity.rate is None:
        return f"capacity of {capacity.endpoint}: unknown; nothing held {slo}"
    rate = per_second(capacity.rate)
    known = capacity.outcome is CapacityOutcome.FOUND and capacity.failed
    at_least = "" if known else "at least "
    return f"capacity of {capacity.endpoint}: {at_least}{rate} with {slo}"


def _evidence(capacity: Capacity) -> str:
    tried = sum(each.rate == capacity.rate for each in capacity.steps)
    text = (
        f"held in {len(capacity.held)} of {number_of(tried, 'step')}: "
        f"{capacity.held_seconds:.1f} s, {number_of(capacity.held_trips, 'trip')}"
    )
    return text if capacity.confirmed else f"{text}; not confirmed"


def _next_one(capacity: Capacity) -> str:
    last = capacity.failed[-1]
    above = "" if capacity.gap is None else f", {100 * capacity.gap:.2g} % above,"
    steps = number_of(len(capacity.failed), "step")
    if last.client is not None:
        return f"{per_second(last.rate)}{above} was too much for the client: {last.client}"
    return f"{per_second(last.rate)}{above} failed in {steps}: {'; '.join(last.missed)}"
