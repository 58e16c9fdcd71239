"""Counts: what became of a target's probes, in a span of time or since the beginning."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Final

import attrs

from techo._probing.failure_cause import NEVER_REACHED, FailureCause
from techo._probing.histogram import Histogram, copied, figures_to_json
from techo._schema import headed
from techo._tls.certificates import days_until

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
"""Seconds of the spans of time that are kept."""


@attrs.define
class Counts:
    """Probes whose fate became known; these can be added, exactly."""

    latency: Histogram = attrs.field(factory=Histogram)
    """Of all that came back, late ones included; its `count` is how many that are."""
    failures: collections.Counter[FailureCause] = attrs.field(factory=collections.Counter)
    """How many were lost for which cause; one that came late is not lost any more, so that a
    span of time can have -1."""
    late: int = 0
    """How many came back after they had been lost."""
    duplicate: int = 0
    """How many came back once more."""
    corrupt: int = 0
    """Replies that were not what was sent."""
    stray: int = 0
    """Messages that belong to no probe."""
    down_seconds: float = 0.0
    """How long it was down."""

    @property
    def received(self) -> int:
        """How many came back."""
        return self.latency.count

    @property
    def lost(self) -> int:
        """How many did not."""
        return max(0, self.failures.total())

    @property
    def never_reached(self) -> bool:
        """Whether nobody was there to answer."""
        causes = {cause for cause, count in self.failures.items() if count > 0}
        return not self.received and bool(causes) and causes <= NEVER_REACHED

    @property
    def loss(self) -> float | None:
        """The share that was lost, in per cent; None if no fate is known."""
        over = self.received + self.lost
        return 100 * self.lost / over if over else None

    def percentile(self, percent: float) -> float | None:
        """Return a round trip time in nanoseconds; see `Histogram.percentile`."""
        return self.latency.percentile(percent, lost=self.lost)

    def add(self, other: Counts) -> None:
        """Count everything that another has counted, too."""
        self.latency.add(other.latency)
        if other.failures:  # mostly there are none
            self.failures.update(other.failures)
        self.late += other.late
        self.duplicate += other.duplicate
        self.corrupt += other.corrupt
        self.stray += other.stray
        self.down_seconds += other.down_seconds

    def copy(self) -> Counts:
        """Return a copy, which counts independently from now on."""
        return Counts(
            self.latency.copy(),
            copied(self.failures),
            self.late,
            self.duplicate,
            self.corrupt,
            self.stray,
            self.down_seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON has them."""
        return {
            "received": self.received,
            "lost": self.lost,
            "loss_percent": self.loss,
            "failures": {str(cause): n for cause, n in self.failures.items() if n},
            "late": self.late,
            "duplicate": self.duplicate,
            "corrupt": self.corrupt,
            "stray": self.stray,
            "down_seconds": self.down_seconds,
            "latency_ns": figures_to_json(self.latency, lost=self.lost),
        }


@attrs.frozen
class Span:
    """What became of a target's probes in a span of time."""

    target: str
    start: int
    """In Unix time: a multiple of `seconds`."""
    seconds: int
    """A minute, an hour or a day."""
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return headed(
            "span",
            target=self.target,
            from_ns=self.start * 10**9,
            seconds=self.seconds,
            **self.counts.to_json(),
        )


@attrs.frozen(kw_only=True)
class Snapshot:
    """What is known of one target at one moment."""

    target: str
    """Its name, which no other target has."""
    endpoint: str
    """Where it is."""
    kind: str
    """Of its endpoint: ``tcp``, ``udp`` and so on."""
    group: str
    """What it belongs to; empty if to nothing."""
    labels: Mapping[str, str]
    """What else there is to say of it."""
    state: str
    """See `State`."""
    since: float
    """From when on it is in that state, in Unix time."""
    down: bool
    """Whether it is away, which it can be while it is flapping."""
    last_ns: int | None
    """The latest round trip; None if the latest probe was lost, or none is over."""
    cause: FailureCause | None
    """Why the latest lost probe was lost; None if none was."""
    reason: str
    """The same in words."""
    sent: int
    """Probes that were due since the beginning, sent or not."""
    missed: int
    """Probes that could not be sent when they were due, because this program was busy."""
    recent: Counts
    """Of the last minute or so: up to now since the beginning of the minute before."""
    total: Counts
    """Since the beginning."""
    setup: Mapping[str, Histogram]
    """How long each ``lookup``, ``connect`` and TLS ``handshake`` took, where there was one."""
    certificate_end: float | None
    """Until when its certificate is valid, in Unix time; None if there is none."""

    def days_left(self, at: float) -> float | None:
        """Return how many days its certificate has left at a Unix time; None without one."""
        return days_until(self.certificate_end, at)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        fields = attrs.asdict(self, recurse=False)
        fields["labels"] = dict(self.labels)
        for name in ("recent", "total"):
            fields[name] = getattr(self, name).to_json()
        fields["since_ns"] = round(fields.pop("since") * 1e9)
        end = fields.pop("certificate_end")
        fields["certificate_end_ns"] = None if end is None else round(end * 1e9)
        fields["setup_ns"] = {name: each.figures() for name, each in self.setup.items()}
        del fields["setup"]
        return fields
