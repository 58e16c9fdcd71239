"""The histogram: durations counted in buckets that are all equally precise, and can be added.

Log-linear: each power of two is cut into 64 equal buckets, durations below 128 ns have one
each. A bucket is given as its middle, which is at most 1/128 (0.8 %) from what was recorded.
"""

from __future__ import annotations

import bisect
import collections
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Self, TypeVar

import attrs

T = TypeVar("T")

_BITS: Final = 6
"""Each power of two has ``2**_BITS`` buckets."""

_FINEST: Final = 2 ** (_BITS + 1)
"""Durations below this, in nanoseconds, have a bucket each."""


COARSE: Final = 3
"""Each ``2**COARSE`` buckets are one coarse bucket."""


def _bucket(duration: int) -> int:
    shift = duration.bit_length() - _BITS - 1
    return duration if shift <= 0 else (shift << _BITS) + (duration >> shift)


def _middle(bucket: int) -> int:
    if bucket < _FINEST:
        return bucket
    shift = (bucket >> _BITS) - 1
    least = (bucket - (shift << _BITS)) << shift
    return least + (1 << shift) // 2


PERCENTS: Final = (50, 90, 95, 99, 99.9)
"""Percentiles that are reported of trips, whoever makes them."""


@attrs.define
class Histogram:
    """Durations in whole nanoseconds. Count, sum, least and most are exact."""

    buckets: collections.Counter[int] = attrs.field(factory=collections.Counter)
    """How many durations there are in each bucket that has some."""
    count: int = 0
    """How many durations there are."""
    sum: int = 0
    """In nanoseconds."""
    min: int = 0
    """In nanoseconds; 0 while there are none."""
    max: int = 0
    """Likewise."""

    def __repr__(self) -> str:
        if not self.count:
            return "<Histogram of nothing>"
        return f"<Histogram of {self.count}, {self.min} to {self.max} ns>"

    @classmethod
    def of(cls, durations: Iterable[int]) -> Self:
        """Return a histogram of durations in nanoseconds."""
        histogram = cls()
        for duration in durations:
            histogram.record(duration)
        return histogram

    def record(self, duration: int) -> None:
        """Count one more duration in nanoseconds.

        Raises:
            ValueError: it is negative.
        """
        if duration <= self.min or not self.count:
            if duration < 0:
                raise ValueError(f"duration {duration!r} is negative")
            self.min = duration
        self.max = max(self.max, duration)
        self.count += 1
        self.sum += duration
        self.buckets[_bucket(duration)] += 1

    def copy(self) -> Self:
        """Return a copy, which counts independently from now on."""
        return type(self)(copied(self.buckets), self.count, self.sum, self.min, self.max)

    def add(self, other: Histogram) -> None:
        """Count everything that another has counted, too."""
        if not other.count:
            return
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.count += other.count
        self.sum += other.sum
        self.buckets.update(other.buckets)

    def since(self, earlier: Histogram) -> Histogram:
        """Return what this has counted that an earlier copy of it had not.

        Its least and most are as exact as its buckets.
        """
        buckets = self.buckets - earlier.buckets
        least, most = (
            (_middle(min(buckets)), _middle(max(buckets))) if buckets else (self.min, self.min)
        )
        return Histogram(
            buckets,
            self.count - earlier.count,
            self.sum - earlier.sum,
            *(min(max(each, self.min), self.max) for each in (least, most)),
        )

    @property
    def mean(self) -> int | None:
        """Exact but for rounding, in nanoseconds; None if there are none."""
        return round(self.sum / self.count) if self.count else None

    def percentile(self, percent: float, *, lost: int = 0) -> float | None:
        """Return the duration that `percent` of all do not exceed, in nanoseconds.

        That is the nearest rank's, to within 0.8 %. `lost` counts what never came back, and so
        is slower than anything: infinity is returned where the percentile falls among it. None
        if there are too few to tell: of n at least one must lie above, so that p99 needs 100
        and p99.9 needs 1,000.

        Raises:
            ValueError: `percent` is not between 0 and 100.
        """
        return self._percentiles([percent], lost)[0]

    def mean_of_fastest(self, percent: float, *, lost: int = 0) -> float | None:
        """Return the mean of the fastest `percent` of all, in nanoseconds, to within 0.8 %.

        Infinity if some of these are among the `lost`; None if there are too few to tell which
        they are: as for `percentile`, at least one has to lie above.

        Raises:
            ValueError: `percent` is not between 0 and 100.
        """
        if self.count + lost < fewest(percent):
            return None
        wanted = left = math.ceil(_rounded((self.count + lost) * percent / 100))
        if wanted > self.count:
            return math.inf
        total = 0
        for duration, count in self.durations():
            total += duration * min(count, left)
            left -= min(count, left)
        return total / wanted

    def _percentiles(self, percents: Iterable[float], lost: int) -> list[float | None]:
        """Return percentiles, for which the buckets are put in order once."""
        count = self.count + lost
        buckets = sorted(self.buckets)
        seen = list(itertools.accumulate(map(self.buckets.__getitem__, buckets)))
        found = list[float | None]()
        for percent in percents:
            if count < fewest(percent):
                found.append(None)
                continue
            rank = math.ceil(_rounded(count * percent / 100))
            at = bisect.bisect_left(seen, rank)
            found.append(self._duration(buckets[at]) if at < len(buckets) else math.inf)
        return found

    def figures(self, *percents: float, lost: int = 0) -> dict[str, float | None]:
        """Return count, min, mean, percentiles (as p50 or p99_9) and max by name.

        They are whole nanoseconds, or None where there are too few to tell. Percentiles count
        the `lost`, and may be infinite: see `percentile`.
        """
        some, found = bool(self.count), self._percentiles(percents, lost)
        return {
            "count": self.count,
            "min": self.min if some else None,
            "mean": self.mean,
            **dict(zip(map(_name_of, percents), found, strict=True)),
            "max": self.max if some else None,
        }

    def durations(self) -> Iterator[tuple[int, int]]:
        """Yield durations in nanoseconds, rising, and how many there are of each."""
        for bucket in sorted(self.buckets):
            yield self._duration(bucket), self.buckets[bucket]

    def _duration(self, bucket: int) -> int:
        return min(max(_middle(bucket), self.min), self.max)

    def curve(self, *, lost: int = 0) -> list[tuple[float, int]]:
        """Return for each duration, in nanoseconds, the share of all that do not exceed it.

        Shares are above 0, and come first. They end with 1 unless some were `lost`.
        """
        count = self.count + lost
        return [(seen / count, duration) for duration, seen in self._ranks()]

    def up_to(self, bounds: Sequence[int]) -> list[int]:
        """Return how many durations do not exceed each bound; bounds are in ns, and rise.

        That is to within 0.8 %, but always the same for the same duration: none of the numbers
        falls when more are recorded.
        """
        limits = [_bucket(bound) for bound in bounds]
        counts = [0] * (len(bounds) + 1)
        for bucket, count in self.buckets.items():
            counts[bisect.bisect_left(limits, bucket)] += count
        return list(itertools.accumulate(counts[:-1]))

    def coarse(self, into: dict[int, int] | None = None) -> dict[int, int]:
        """Return how many durations are in each of coarser buckets, 8 to a power of two.

        Each joins 8 of the finer ones: number ``n`` begins where bucket ``8 * n`` does. They
        are counted `into` what is there already.
        """
        found = {} if into is None else into
        for bucket, count in self.buckets.items():
            found[bucket >> COARSE] = found.get(bucket >> COARSE, 0) + count
        return found

    def _ranks(self) -> Iterator[tuple[int, int]]:
        """Yield durations, rising, and how many do not exceed each."""
        seen = 0
        for duration, count in self.durations():
            seen += count
            yield duration, seen

    def to_json(self) -> dict[str, object]:
        """Return it as JSON has it; `from_json` reads it back."""
        buckets = {str(bucket): self.buckets[bucket] for bucket in sorted(self.buckets)}
        return {
            "bits": _BITS,
            "total_ns": self.sum,
            "min_ns": self.min,
            "max_ns": self.max,
            "buckets": buckets,
        }

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read back what `to_json` returned.

        Raises:
            ValueError: it is not that; the text says what is wrong.
        """
        if not isinstance(data, Mapping) or data.get("bits") != _BITS:
            raise ValueError(f"a histogram has bits {_BITS}, and this is {str(data)[:60]!r}")
        names = ("buckets", "total_ns", "min_ns", "max_ns")
        if missing := [name for name in names if name not in data]:
            raise ValueError(f"the histogram lacks {missing[0]!r}")
        found, *figures = (data[name] for name in names)
        if not isinstance(found, Mapping) or not all(map(str.isdecimal, found)):
            raise ValueError(f"the histogram's buckets are no counts: {str(found)[:60]!r}")
        figures = list(map(_natural, figures))
        buckets = collections.Counter({int(key): _natural(each) for key, each in found.items()})
        least, most = (_bucket(figures[1]), _bucket(figures[2])) if buckets else (0, 0)
        if buckets and (min(buckets), max(buckets)) != (least, most):
            raise ValueError("the histogram's min_ns and max_ns are not those of its buckets")
        if figures[2] >= _FOR_EVER:
            raise ValueError(f"max_ns {figures[2]!r} is no duration that was measured")
        count = buckets.total()
        if not figures[1] * count <= figures[0] <= figures[2] * count:
            raise ValueError("the histogram's total_ns is no sum of its durations")
        return cls(buckets, count, *figures)


def copied(counter: collections.Counter[T]) -> collections.Counter[T]:
    """Return a copy of a counter in half of the time that its own method takes."""
    copy = collections.Counter[T]()
    dict.update(copy, counter)
    return copy


def nanoseconds(seconds: float) -> int:
    """Return seconds as whole nanoseconds; a float of those of Unix time is too coarse."""
    whole, part = divmod(seconds, 1)
    return int(whole) * _SECOND + round(part * _SECOND)


def figures_to_json(histogram: Histogram, *, lost: int) -> dict[str, float | None]:
    """Return the figures of trips as JSON has them, in nanoseconds but for the count.

    It knows no infinity: what was lost has no time.
    """
    figures = histogram.figures(*PERCENTS, lost=lost)
    return {name: None if each == math.inf else each for name, each in figures.items()}


_SECOND: Final = 1_000_000_000
"""Nanoseconds."""

_FOR_EVER: Final = 10**18
"""Nanoseconds: thirty years."""

_ENDLESS: Final = 2**100
"""No sum of durations is so large, and no arithmetic with it goes wrong."""


def fewest(percent: float) -> int:
    """Return how many durations a percentile needs to mean anything.

    Raises:
        ValueError: `percent` is not between 0 and 100.
    """
    if not 0 < percent < 100:  # noqa: PLR2004  -- what per cent means
        raise ValueError(f"percent {percent!r} is not between 0 and 100")
    return math.ceil(_rounded(100 / (100 - percent)))


def _name_of(percent: float) -> str:
    return f"p{percent:g}".replace(".", "_")


def _rounded(value: float) -> float:
    """Take away what binary fractions add to 99.9."""
    return round(value, 6)


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < _ENDLESS:
        raise ValueError(f"the histogram has {value!r} where a whole number from 0 belongs")
    return value
