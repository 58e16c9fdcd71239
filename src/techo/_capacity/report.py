"""The capacity of a server: what was found, and how well it is known."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import attrs

from techo._capacity.step import CapacityStep, StepVerdict
from techo._reprs import brief
from techo._schema import headed


class CapacityOutcome(enum.StrEnum):
    """How a search for a capacity ended."""

    FOUND = "found"
    """The highest rate that holds is known, to within the precision."""
    LOWEST_FAILED = "lowest-failed"
    """Nothing held, not even the lowest rate."""
    CLIENT_LIMIT = "client-limit"
    """This program fell short before the server did."""
    NEVER_REACHED = "never-reached"
    """Nobody was there to answer, or nobody was there any more."""
    UNFINISHED = "unfinished"
    """It was stopped, or had no steps left."""


@attrs.frozen(kw_only=True)
class Capacity:
    """The highest rate at which a server holds what it must, and all steps that show it."""

    endpoint: str
    """What was loaded, as text."""
    slo: tuple[str, ...]
    """What had to hold."""
    precision: float
    """How far apart the bounds may be, as a share of the lower one."""
    outcome: CapacityOutcome
    """How the search ended."""
    rate: float | None
    """The highest rate that held, in trips per second; None if none did."""
    confirmed: bool
    """Whether it held in a long step, too."""
    failed_rate: float | None
    """The lowest rate that did not hold; None if none was tried or all did."""
    steps: tuple[CapacityStep, ...]
    """All that was tried, in that order."""

    def __repr__(self) -> str:
        return brief(attrs.evolve(self, steps=()))

    def __str__(self) -> str:
        from techo._capacity.text import text_of  # noqa: PLC0415  -- it is needed for this only

        return text_of(self)

    @property
    def held(self) -> tuple[CapacityStep, ...]:
        """The steps in which the rate held."""
        return tuple(each for each in self.steps if each.rate == self.rate and each.held)

    @property
    def failed(self) -> tuple[CapacityStep, ...]:
        """The steps in which the next rate failed."""
        return tuple(
            each for each in self.steps if each.rate == self.failed_rate and not each.held
        )

    @property
    def held_seconds(self) -> float:
        """How long it held, all steps together."""
        return sum(each.report.seconds for each in self.held)

    @property
    def held_trips(self) -> int:
        """How many trips were made at the rate, in steps that held."""
        return sum(each.report.received for each in self.held)

    @property
    def gap(self) -> float | None:
        """How far above the rate the next one is that failed, as a share of it."""
        if self.rate is None or self.failed_rate is None:
            return None
        return self.failed_rate / self.rate - 1

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, without the steps, which have objects of their own."""
        gap = self.gap
        return headed(
            "capacity",
            endpoint=self.endpoint,
            slo=list(self.slo),
            outcome=str(self.outcome),
            trips_per_second=self.rate,
            confirmed=self.confirmed,
            failed_trips_per_second=self.failed_rate,
            gap_percent=None if gap is None else 100 * gap,
            precision_percent=100 * self.precision,
            held={
                "steps": len(self.held),
                "seconds": self.held_seconds,
                "received": self.held_trips,
            },
            steps=len(self.steps),
            connections=self.steps[-1].report.connections if self.steps else None,
            size_bytes=self.steps[-1].report.size if self.steps else None,
            pipeline=self.steps[-1].report.pipeline if self.steps else None,
        )


def outcome_of(
    steps: Sequence[CapacityStep], *, over: bool, lower: float | None, upper: float | None
) -> CapacityOutcome:
    """Return how a search has ended that has made these steps, and has these bounds."""
    last = steps[-1] if steps else None
    if last is not None and last.verdict is StepVerdict.NEVER_REACHED:
        return CapacityOutcome.NEVER_REACHED
    if last is not None and last.broke_client:
        return CapacityOutcome.CLIENT_LIMIT
    if not over:
        return CapacityOutcome.UNFINISHED
    failed = [each for each in steps if each.rate == upper and not each.held]
    # A single failure that was the server's own shows that it cannot do more.
    if failed and all(each.verdict is StepVerdict.CLIENT_LIMIT for each in failed):
        return CapacityOutcome.CLIENT_LIMIT
    return CapacityOutcome.LOWEST_FAILED if lower is None else CapacityOutcome.FOUND
