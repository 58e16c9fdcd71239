"""The comparison: what is known of each figure's change, as a value."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from techo._load.report import LoadReport
from techo._schema import headed

FEWEST: Final = 5
"""Runs on a side. Fewer say too little of how much runs differ by chance."""


class Verdict(enum.StrEnum):
    """What is known of a figure's change."""

    BETTER = "better"
    WORSE = "worse"
    NOT_SHOWN = "no_change_shown"
    """There may be one all the same, as large as the interval allows."""
    UNKNOWN = "cannot_tell"
    """Something is missing; `ComparedFigure.reason` says what."""


@attrs.frozen(kw_only=True)
class ComparedFigure:
    """One figure on both sides, and what is known of its change.

    A loss is in per cent and changes by percentage points. All else changes by per cent of what
    it was.
    """

    name: str
    """As in rules, such as p50 or loss."""
    unit: str
    """That of `before` and `after`: ns, percent or per_second."""
    before: float | None
    """The mean over the runs before: the arithmetic one of a loss, the geometric one of all
    else. Infinite if it is among the lost in some run, None if some run does not have it."""
    after: float | None
    """The same over the runs after."""
    change: float | None = None
    """In per cent, or of a loss in percentage points; None if it is unknown. Infinite if it is
    lost in runs after only, or was 0 in some before."""
    low: float | None = None
    """Where the interval of the change begins; None if it has no bounds."""
    high: float | None = None
    """Where it ends."""
    confidence: float | None = None
    """How often such an interval has the true change in it, in per cent: from 95 on."""
    p: float | None = None
    """How often chance alone makes some figure of the set look as changed as this (Holm)."""
    verdict: Verdict = Verdict.UNKNOWN
    """Whether a change is shown, and of which kind."""
    reason: str = ""
    """Why the change is unknown; empty if it is not."""

    @property
    def change_unit(self) -> str:
        """That of `change`, `low` and `high`: percent or percentage_points."""
        return "percentage_points" if self.unit == "percent" else "percent"

    @property
    def shown(self) -> bool:
        """Whether a change is shown."""
        return self.verdict in {Verdict.BETTER, Verdict.WORSE}

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, which knows no infinity; its name is not in it."""
        before, after = (_in_json(each, self.unit) for each in (self.before, self.after))
        endless = self.change is not None and math.isinf(self.change)
        return {
            "unit": self.unit,
            "before": before,
            "after": after,
            "change_unit": self.change_unit,
            "change": None if endless else self.change,
            "low": self.low,
            "high": self.high,
            "confidence_percent": self.confidence,
            "p": self.p,
            "verdict": str(self.verdict),
            "reason": self.reason or None,
        }


@attrs.frozen(kw_only=True)
class Comparison:
    """What has changed between the runs of two sides; `compare` makes it."""

    before: Sequence[LoadReport]
    """The runs of one side."""
    after: Sequence[LoadReport]
    """The runs of the other."""
    figures: Mapping[str, ComparedFigure]
    """All figures, by their names."""
    notes: Sequence[str]
    """What else differs between the runs, or casts doubt on them, in words."""

    def __repr__(self) -> str:
        changed = ", ".join(f"{name} {each.verdict}" for name, each in self.figures.items())
        return f"<Comparison of {len(self.before)} runs with {len(self.after)}: {changed}>"

    def __str__(self) -> str:
        from techo._comparing.text import text_of  # noqa: PLC0415  -- rich is not needed for more

        return text_of(self)

    @property
    def enough(self) -> bool:
        """Whether there are enough runs on both sides to know anything."""
        return min(len(self.before), len(self.after)) >= FEWEST

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        names = {name: name.replace(".", "_") for name in self.figures}
        return headed(
            "comparison",
            before=_side(self.before),
            after=_side(self.after),
            figures={names[name]: each.to_json() for name, each in self.figures.items()},
            notes=[*self.notes],
        )


def _in_json(value: float | None, unit: str) -> float | None:
    if value is None or math.isinf(value):
        return None
    return round(value) if unit == "ns" else value


def _side(runs: Sequence[LoadReport]) -> dict[str, Any]:
    return {
        "runs": len(runs),
        "endpoints": endpoints_of(runs),
        "received": sum(each.received for each in runs),
        "lost": sum(each.lost for each in runs),
    }


def endpoints_of(runs: Sequence[LoadReport]) -> list[str]:
    """Return what runs have loaded, each once."""
    return list(dict.fromkeys(each.endpoint for each in runs))
