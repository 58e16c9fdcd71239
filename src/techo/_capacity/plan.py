"""The plan of a search: what it is to do, whatever is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import attrs

from techo._capacity.objectives import Objectives
from techo._capacity.search import Search, Trial
from techo._validation import COUNT, SECONDS_ABOVE_0, TRIPS_PER_SECOND, number

LONGER: Final = 3
"""Times as long as the other steps the one is that confirms."""

START: Final = 100.0
"""Trips per second of the first step, by default."""

SECONDS: Final = 5.0
"""How long a step is by default, at least."""

WARM_UP: Final = 0.5
"""Seconds of a step that are not counted, by default."""

STEPS: Final = 100
"""How many steps there are at the most, by default."""

PRECISION: Final = 0.02
"""How far apart the bounds may be by default, as a share of the lower one."""

_PRECISION: Final = number(above=0, most=1)
"""What a precision has to be: a share."""


def _texts(slo: str | Sequence[str]) -> tuple[str, ...]:
    return (slo,) if isinstance(slo, str) else tuple(slo)


@attrs.frozen(kw_only=True)
class SearchPlan:
    """What a search for a capacity is to do, whatever is loaded; `capacity` explains it.

    Raises:
        ValueError: a value makes no sense; the text names it.
    """

    slo: Sequence[str] = attrs.field(converter=_texts)
    start: float = attrs.field(default=START, validator=TRIPS_PER_SECOND)
    max_rate: float | None = attrs.field(default=None, validator=TRIPS_PER_SECOND.or_off())
    precision: float = attrs.field(default=PRECISION, validator=_PRECISION)
    seconds: float = attrs.field(default=SECONDS, validator=SECONDS_ABOVE_0)
    max_steps: int = attrs.field(default=STEPS, validator=COUNT)
    objectives: Objectives = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "objectives", Objectives.of(self.slo, self.precision))
        if self.max_rate is not None and self.start > self.max_rate:
            raise ValueError(f"start {self.start!r} is above max_rate {self.max_rate!r}")

    def search(self) -> Search:
        """Return the search that is meant."""
        return Search(
            start=self.start,
            highest=math.inf if self.max_rate is None else self.max_rate,
            precision=self.precision,
            most=self.max_steps,
        )

    def trips(self, trial: Trial, reconnect_every: int | None) -> int:
        """Return how many trips a trial takes: for so long, but enough for all figures.

        A queue that grows is seen when it takes longer than is allowed. So what confirms lasts
        until one would be seen that grows for being asked for more than the precision too much.
        """
        trips = max(_whole(self.seconds * trial.rate), self.objectives.trips(reconnect_every))
        if not trial.confirming:
            return trips
        seen = self.objectives.longest / self.precision
        return max(LONGER * trips, _whole(seen * trial.rate))


def _whole(trips: float) -> int:
    return math.ceil(round(trips, 6))
