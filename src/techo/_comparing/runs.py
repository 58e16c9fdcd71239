"""Runs: which cannot be compared at all, and what has to be said of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from techo._load.report import LoadReport
from techo._probing.failure_cause import FailureCause

_PLAN: Final[dict[str, Callable[[LoadReport], float | str | None]]] = {
    "connections": lambda run: run.connections,
    "messages in flight on each": lambda run: run.pipeline,
    "trips/s wanted": lambda run: run.rate,
    "arrivals": lambda run: run.arrivals,
    "seconds of ramp": lambda run: run.ramp_seconds,
    "trips until each reconnects": lambda run: run.reconnect_every,
    "probes/s beside the load": lambda run: None if run.probe is None else run.probe.rate,
    "processes or machines": lambda run: len(run.parts) or 1,
}
"""What was asked for and should be the same, but may be what is tried out."""

_DOUBTS: Final[dict[str, Callable[[LoadReport], bool]]] = {
    "the client was the limit": lambda run: run.client_was_limit,
    "the client's own machine fell short": lambda run: FailureCause.LOCAL in run.failures,
    "a process died": lambda run: any(part.died is not None for part in run.parts),
    "it gave up early": lambda run: run.gave_up_after_seconds is not None,
    "nothing came back": lambda run: not run.received,
}
"""What makes a run say less about the server."""


def check_comparable(before: Sequence[LoadReport], after: Sequence[LoadReport]) -> None:
    """Refuse runs whose trips are different things.

    Raises:
        ValueError: a side has no runs, messages differ in size, or some runs have a rate and
            others have not.
    """
    for side, runs in (("before", before), ("after", after)):
        if not runs:
            raise ValueError(f"there is no run {side}")
    if len({run.size for run in (*before, *after)}) > 1:
        raise ValueError(
            f"messages differ in size: {_values(before, after, lambda run: run.size)} bytes; "
            "load both sides with the same --size"
        )
    if len({run.rate is None for run in (*before, *after)}) > 1:
        raise ValueError(
            "some runs have a rate and others have not, so that their times are different "
            "things; load both sides with the same --rate"
        )


def notes_on(before: Sequence[LoadReport], after: Sequence[LoadReport]) -> Iterator[str]:
    """Yield what else differs between the runs, and what casts doubt on some."""
    for what, value in _PLAN.items():
        if len({value(run) for run in (*before, *after)}) > 1:
            yield f"not the same: {what}, {_values(before, after, value)}"
    for what, holds in _DOUBTS.items():
        counts = [sum(map(holds, runs)) for runs in (before, after)]
        if any(counts):
            sides = ((before, "before"), (after, "after"))
            where = [
                f"{count} of {len(runs)} runs {side}"
                for count, (runs, side) in zip(counts, sides, strict=True)
                if count
            ]
            yield f"{what} in {' and '.join(where)}"


def _values(
    before: Sequence[LoadReport],
    after: Sequence[LoadReport],
    value: Callable[[LoadReport], float | str | None],
) -> str:
    sides = ((before, "before"), (after, "after"))
    texts = (
        f"{' or '.join(sorted({_text(value(run)) for run in runs}))} {side}"
        for runs, side in sides
    )
    return ", ".join(texts)


def _text(value: float | str | None) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:,.10g}"
