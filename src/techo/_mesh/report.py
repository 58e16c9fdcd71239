"""The report of a mesh: a pair for each way between two machines, and matrices of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, figures_to_json
from techo._reprs import brief
from techo._schema import headed

FIGURES: Final[Mapping[str, str]] = {"p50": "ms", "p99": "ms", "loss": "%"}
"""The figures that have a matrix, and what each is shown in."""


@attrs.frozen(kw_only=True)
class MeshPair:
    """What one machine has measured to another."""

    source: str
    """The machine that has sent the probes."""
    target: str
    """The machine that was to answer."""
    sent: int = 0
    """Probes that were due, sent or not."""
    received: int = 0
    """Of these, how many came back."""
    lost: int = 0
    """How many have failed."""
    missed: int = 0
    """Probes that were not sent when they were due, as the program was busy; not in `sent`."""
    failures: Mapping[FailureCause, int] = attrs.field(factory=dict)
    """How many were lost for which cause."""
    latency: Histogram = attrs.field(factory=Histogram)
    """From sending to the reply, of all that came back."""
    figures: Mapping[str, float | None] = attrs.field(factory=dict)
    """All that rules can be about, as for a ping; empty if nothing was measured."""

    def __repr__(self) -> str:
        return brief(self)

    @property
    def loss(self) -> float | None:
        """The share that was lost of all that is over, in per cent; None if nothing is."""
        over = self.received + self.lost
        return 100 * self.lost / over if over else None

    def percentile(self, percent: float) -> float | None:
        """Return the round trip time that `percent` of the probes do not exceed.

        In nanoseconds; what was lost is slower than anything: see `Histogram.percentile`.
        """
        return self.latency.percentile(percent, lost=self.lost)

    def figure(self, name: str) -> float | None:
        """Return one of `FIGURES`: times in nanoseconds, the loss in per cent."""
        if name == "loss":
            return self.loss
        return self.percentile(float(name.removeprefix("p")))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return {
            "source": self.source,
            "target": self.target,
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "missed": self.missed,
            "loss_percent": self.loss,
            "failures": {str(cause): count for cause, count in self.failures.items()},
            "latency_ns": figures_to_json(self.latency, lost=self.lost),
            "latency_histogram": self.latency.to_json(),
        }


@attrs.frozen(kw_only=True)
class MeshMachine:
    """One machine of a mesh."""

    name: str
    """As the scheduler knows it, with its address."""
    endpoint: str | None = None
    """Where it has served; None if it never did."""
    died: str | None = None
    """Why nothing more came from it; None if it has reported its end."""


@attrs.frozen(kw_only=True)
class Mesh:
    """What all machines have measured to all others."""

    machines: Sequence[MeshMachine]
    """In the order of rows and columns."""
    pairs: Sequence[MeshPair]
    """Row by row: all of the first machine, to the others in their order, then the next."""
    in_turns: bool = False
    """Whether each machine has probed one other at a time, rather than all at once."""

    def __repr__(self) -> str:
        return f"<Mesh of {len(self.machines)} machines, {len(self.pairs)} pairs>"

    def __str__(self) -> str:
        from techo._mesh.text import text_of  # noqa: PLC0415  -- rich takes a while

        return text_of(self)

    @property
    def measured(self) -> list[MeshPair]:
        """The pairs between machines that have both lived to the end, and were probed."""
        dead = {each.name for each in self.machines if each.died is not None}
        return [
            each for each in self.pairs if each.sent and not {each.source, each.target} & dead
        ]

    def matrix(self, figure: str) -> list[list[float | None]]:
        """Return a figure of all pairs: a row for each source, a column for each target."""
        known = {(each.source, each.target): each.figure(figure) for each in self.pairs}
        names = [each.name for each in self.machines]
        return [[known.get((source, target)) for target in names] for source in names]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it, with those that stand out."""
        from techo._mesh.outliers import outliers_of  # noqa: PLC0415  -- it is about reports

        return headed(
            "mesh",
            machines=[attrs.asdict(each) for each in self.machines],
            in_turns=self.in_turns,
            pairs=[each.to_json() for each in self.pairs],
            outliers=[each.to_json() for each in outliers_of(self)],
        )
