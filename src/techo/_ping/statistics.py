"""The statistics of ping: what has become of all probes, and how JSON has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from techo._probing.failure_cause import NEVER_REACHED, FailureCause
from techo._probing.histogram import Histogram
from techo._probing.outages import Outage

SCHEMA: Final = 1
"""The version of what JSON has, of results and of their statistics."""

_NANOSECONDS: Final = 1_000_000_000
PERCENTS: Final = (50, 95, 99)
"""Percentiles that are reported of a ping."""
_COUNTS: Final = (
    "endpoint",
    "sent",
    "received",
    "lost",
    "in_flight",
    "missed",
    "late",
    "duplicate",
    "corrupt",
    "reconnects",
)


@attrs.frozen(kw_only=True)
class PingStatistics:
    """What has become of the probes so far: ``sent == received + lost + in_flight``."""

    endpoint: str
    sent: int
    """Probes that were due, sent or not."""
    received: int
    """Of these, how many came back, late ones included."""
    lost: int
    """How many have failed: the sum of `failures`."""
    in_flight: int
    missed: int
    """Probes that were not sent when they were due, because the program was busy or too many
    results waited; not in `sent`."""
    late: int
    """How many came back after they had failed, and are not lost."""
    duplicate: int
    """Replies to what had been answered before; not in `received`."""
    corrupt: int
    """Replies that were not what was sent, including those that belong to no probe."""
    failures: Mapping[FailureCause, int]
    reconnects: int
    """Times that the connection was opened again."""
    largest: int | None
    """Bytes of the largest probe that came back; None if none did."""
    rtt: Histogram
    """From sending to the reply, of all that came back."""
    mdev: int | None
    """Standard deviation of these, in nanoseconds; None if there are none."""
    jitter: int | None
    """By how much one differs from the one before, on average, in nanoseconds."""
    outages: int
    outage_seconds: float
    """Of all outages together."""
    longest_outage: Outage | None
    setup: Mapping[str, Histogram]
    """How long each ``lookup`` of the name, ``connect`` and TLS ``handshake`` took, where
    there was one."""

    @property
    def loss(self) -> float | None:
        """The share that was lost of what is no longer in flight, in per cent."""
        over = self.received + self.lost
        return 100 * self.lost / over if over else None

    @property
    def never_reached(self) -> bool:
        """Whether nobody was there to answer."""
        return not self.received and self.lost > 0 and self.failures.keys() <= NEVER_REACHED

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it: whole nanoseconds where the name ends in _ns."""
        return {
            "schema": SCHEMA,
            "event": "summary",
            **{name: getattr(self, name) for name in _COUNTS},
            "loss_percent": self.loss,
            "failures": {str(cause): count for cause, count in self.failures.items()},
            "largest_bytes": self.largest,
            "rtt_ns": {
                **self.rtt.figures(*PERCENTS),
                "mdev": self.mdev,
                "jitter": self.jitter,
            },
            "outages": {
                "count": self.outages,
                "total_ns": nanoseconds(self.outage_seconds),
                "longest": _outage_to_json(self.longest_outage),
            },
            "setup_ns": {name: each.figures() for name, each in self.setup.items()},
        }


def _outage_to_json(outage: Outage | None) -> dict[str, int | None] | None:
    if outage is None:
        return None
    return {
        "from_ns": nanoseconds(outage.since),
        "to_ns": None if outage.until is None else nanoseconds(outage.until),
        "duration_ns": nanoseconds(outage.seconds),
        "probes": outage.probes,
    }


def nanoseconds(seconds: float) -> int:
    """Return seconds as whole nanoseconds."""
    return round(seconds * _NANOSECONDS)
