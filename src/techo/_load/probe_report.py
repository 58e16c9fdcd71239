"""What the probe of a load has found: how long it took idle, under load and afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from techo._load.report_fields import counts
from techo._load.sums import sum_of, sum_of_failures
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, figures_to_json
from techo._probing.trip import Clock
from techo._reprs import brief
from techo._validation import AMOUNT, NATURAL

SIZE: Final = 64
"""Bytes of a probe."""

PHASES: Final = ("idle", "loaded", "after")
"""The fields that are of one phase each."""

_FASTEST: Final = 95
"""Per cent of the probes whose mean is responsiveness: TMP of the draft that defines it."""

_MINUTE: Final = 60_000_000_000
"""Nanoseconds."""


@attrs.frozen(kw_only=True)
class ProbePhase:
    """What has become of the probes that were sent in one phase.

    Raises:
        ValueError: a count is none; the text names it and its value.
    """

    latency: Histogram = attrs.field(factory=Histogram)
    """Of those that came back in time."""
    failures: Mapping[FailureCause, int] = attrs.field(factory=dict, converter=counts)
    """How many were lost for which cause."""

    @property
    def received(self) -> int:
        """How many came back in time."""
        return self.latency.count

    @property
    def lost(self) -> int:
        """How many did not."""
        return sum(self.failures.values())

    @property
    def loss(self) -> float | None:
        """The share that was lost, in per cent; None if there were no probes."""
        over = self.received + self.lost
        return 100 * self.lost / over if over else None

    def percentile(self, percent: float) -> float | None:
        """Return what `percent` of the probes do not exceed: see `Histogram.percentile`."""
        return self.latency.percentile(percent, lost=self.lost)

    @property
    def round_trips_per_minute(self) -> float | None:
        """How many probes one after the other would take a minute, of the fastest 95 %.

        That is 0 if more than the other 5 % were lost, and None for fewer than 20 probes.
        """
        typical = self.latency.mean_of_fastest(_FASTEST, lost=self.lost)
        if typical is None:
            return None
        return 0.0 if math.isinf(typical) else _MINUTE / max(1.0, typical)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return {
            "sent": self.received + self.lost,
            "received": self.received,
            "lost": self.lost,
            "loss_percent": self.loss,
            "failures": {str(cause): count for cause, count in self.failures.items()},
            "latency_ns": figures_to_json(self.latency, lost=self.lost),
            "latency_histogram": self.latency.to_json(),
            "round_trips_per_minute": self.round_trips_per_minute,
        }

    @classmethod
    def from_json(cls, data: object) -> ProbePhase:
        """Read back what `to_json` returned.

        Raises:
            ValueError: it is not that; the text says what is wrong.
        """
        names = ("latency_histogram", "failures")
        histogram, failures = (_field(data, name, "a phase of the probe") for name in names)
        return cls(latency=Histogram.from_json(histogram), failures=failures)

    @classmethod
    def merged(cls, phases: Sequence[ProbePhase]) -> ProbePhase:
        """Add up the same phase of several machines."""
        return cls(
            latency=sum_of(each.latency for each in phases),
            failures=sum_of_failures([each.failures for each in phases]),
        )


@attrs.frozen(kw_only=True)
class ProbeReport:
    """What the probe of a load has found, on a connection of its own.

    Raises:
        ValueError: a count or an amount is none; the text names it and its value.
    """

    rate: float = attrs.field(validator=AMOUNT)
    """Probes per second that were wanted."""
    missed: int = attrs.field(default=0, validator=NATURAL)
    """Probes that were not sent when they were due, because this program was busy."""
    clocks: Mapping[Clock, int] = attrs.field(factory=dict)
    """How many round trips the kernel has timed: from when the probe came to the queue of this
    machine's interface to when its reply had arrived. For the others, this program's own delay
    is part of the time."""
    idle: ProbePhase = attrs.field(factory=ProbePhase)
    """Before the load."""
    loaded: ProbePhase = attrs.field(factory=ProbePhase)
    """While the load was counted and trips began: neither in the warm-up, nor when there were
    only the last replies to wait for."""
    after: ProbePhase = attrs.field(factory=ProbePhase)
    """From when the load's connections were closed."""

    def __repr__(self) -> str:
        return brief(self)

    @property
    def growth(self) -> float | None:
        """By how many nanoseconds p50 is more under load than idle.

        Infinity if more than half of the probes were lost under load; None where it is unknown.
        """
        idle, loaded = self._medians
        return None if idle is None or loaded is None else loaded - idle

    @property
    def slowdown(self) -> float | None:
        """How many times as slow as idle p50 is under load: see `growth`."""
        idle, loaded = self._medians
        return None if idle is None or loaded is None else loaded / max(1.0, idle)

    @property
    def _medians(self) -> tuple[float | None, float | None]:
        idle, loaded = self.idle.percentile(50), self.loaded.percentile(50)
        return (None if idle == math.inf else idle), loaded

    @property
    def round_trips_per_minute(self) -> float | None:
        """Responsiveness: that of the `loaded` phase."""
        return self.loaded.round_trips_per_minute

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        growth, slowdown = (
            None if each == math.inf else each for each in (self.growth, self.slowdown)
        )
        return {
            "wanted_probes_per_second": self.rate,
            "size_bytes": SIZE,
            "missed": self.missed,
            "samples": {str(clock): self.clocks.get(clock, 0) for clock in Clock},
            **{name: getattr(self, name).to_json() for name in PHASES},
            "growth_ns": growth,
            "slowdown": slowdown,
            "round_trips_per_minute": self.round_trips_per_minute,
        }

    @classmethod
    def from_json(cls, data: object) -> ProbeReport:
        """Read back what `to_json` returned.

        Raises:
            ValueError: it is not that; the text says what is wrong.
        """
        samples = _field(data, "samples", "the probe")
        numbers = {clock: _field(samples, str(clock), "the probe's samples") for clock in Clock}
        NATURAL.check(**{str(clock): count for clock, count in numbers.items()})
        return cls(
            rate=_field(data, "wanted_probes_per_second", "the probe"),
            missed=_field(data, "missed", "the probe"),
            clocks={clock: count for clock, count in numbers.items() if count},
            **{name: ProbePhase.from_json(_field(data, name, "the probe")) for name in PHASES},
        )

    @classmethod
    def merged(cls, probes: Sequence[ProbeReport | None]) -> ProbeReport | None:
        """Add up what those of several machines have found that have probed; None without."""
        found = [each for each in probes if each is not None]
        if not found:
            return None
        clocks = {clock: sum(each.clocks.get(clock, 0) for each in found) for clock in Clock}
        return cls(
            rate=sum(each.rate for each in found),
            missed=sum(each.missed for each in found),
            clocks={clock: count for clock, count in clocks.items() if count},
            **{
                name: ProbePhase.merged([getattr(each, name) for each in found])
                for name in PHASES
            },
        )


def _field(data: object, name: str, what: str) -> Any:
    if not isinstance(data, Mapping) or name not in data:
        raise ValueError(f"{what} lacks {name!r}")
    return data[name]
