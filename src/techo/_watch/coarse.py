"""Counts as a strip shows them: less than all that is known, because it is read so often."""

from __future__ import annotations

import itertools
from typing import Self

import attrs

from techo._watch.counts import Counts


@attrs.define
class Coarse:
    """What became of probes in a span of time; these can be added."""

    received: int = 0
    lost: int = 0
    """What came late is not lost any more, so that it can be negative."""
    down_seconds: float = 0.0
    buckets: dict[int, int] = attrs.field(factory=dict)
    """See `Histogram.coarse`."""

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """Return what a strip shows of counts."""
        return cls(
            counts.received,
            counts.failures.total(),
            counts.down_seconds,
            counts.latency.coarse(),
        )

    def add(self, other: Coarse) -> None:
        """Count everything that another has counted, too."""
        self.received += other.received
        self.lost += other.lost
        self.down_seconds += other.down_seconds
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def to_text(self) -> str:
        """Return what JSON has of it, without braces: that takes a third of the time."""
        pairs = itertools.chain.from_iterable(sorted(self.buckets.items()))
        buckets = ",".join(map(str, pairs))
        return (
            f'"received":{self.received},"lost":{max(0, self.lost)},'
            f'"down_seconds":{self.down_seconds},"buckets":[{buckets}]'
        )
