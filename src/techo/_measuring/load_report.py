"""The report of a load: what happened, how long it took, and how to add up several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from techo._measuring.causes import NEVER_REACHED, Cause
from techo._measuring.histogram import Histogram

_PERCENTS: Final = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9}

SCHEMA: Final = 1
"""The version of what JSON has."""

NANOSECONDS: Final = 1_000_000_000


@attrs.frozen(kw_only=True)
class LoadReport:
    """What a load has found out. What is counted is what happened, not what was planned."""

    endpoint: str
    connections: int
    size: int
    """Bytes in a message."""
    pipeline: int
    """Messages under way on each connection, at the most."""
    rate: float | None
    """Trips per second that were wanted; None for as many as possible."""
    seconds: float
    """From the end of the warm-up to the last reply."""
    round_trips: int
    """Messages of which every byte came back."""
    bytes: int
    """In these, one way."""
    errors: Mapping[Cause, int]
    """Trips that failed, and attempts to connect, by cause."""
    reconnects: int
    """Times that a connection was opened again."""
    late: int
    """Replies that came after they had been given up, which are errors too."""
    duplicate: int
    """Replies that had come before."""
    unsent: int
    """Trips that were due and could not be sent in the end."""
    service: Histogram
    """How long trips took from when they were sent."""
    response: Histogram | None
    """And from when they should have been; None without a rate."""
    behind: Histogram | None
    """How much later than they should they were sent; None without a rate."""
    client_cpu_seconds: float
    """What this process used meanwhile."""
    client_was_limit: bool
    """Whether that was so much that another client might measure more."""

    @property
    def round_trips_per_second(self) -> float:
        """How many came back in each second."""
        return self.round_trips / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> int:
        """How many errors there were."""
        return sum(self.errors.values())

    @property
    def never_reached(self) -> bool:
        """Whether nobody was there to answer."""
        return (
            not self.round_trips and bool(self.failed) and self.errors.keys() <= NEVER_REACHED
        )

    @classmethod
    def merged(cls, reports: Sequence[LoadReport]) -> LoadReport:
        """Add up what several machines have found out at the same time.

        Raises:
            ValueError: there is none; or some have a rate and others have not.
        """
        if not reports:
            raise ValueError("there is no report to merge")
        if len({each.rate is None for each in reports}) > 1:
            raise ValueError("some of the reports have a rate, and others have not")
        rates = [each.rate for each in reports if each.rate is not None]
        endpoints = dict.fromkeys(each.endpoint for each in reports)
        return cls(
            endpoint=", ".join(endpoints),
            connections=sum(each.connections for each in reports),
            size=max(each.size for each in reports),
            pipeline=max(each.pipeline for each in reports),
            rate=sum(rates) if rates else None,
            seconds=max(each.seconds for each in reports),
            round_trips=sum(each.round_trips for each in reports),
            bytes=sum(each.bytes for each in reports),
            errors=_sum_of_errors(reports),
            reconnects=sum(each.reconnects for each in reports),
            late=sum(each.late for each in reports),
            duplicate=sum(each.duplicate for each in reports),
            unsent=sum(each.unsent for each in reports),
            service=_sum_of([each.service for each in reports]),
            response=_sum_of([each.response for each in reports]) if rates else None,
            behind=_sum_of([each.behind for each in reports]) if rates else None,
            client_cpu_seconds=sum(each.client_cpu_seconds for each in reports),
            client_was_limit=any(each.client_was_limit for each in reports),
        )

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON has it: times are whole nanoseconds where the name ends in _ns."""
        fields = attrs.asdict(self, recurse=False)
        times = {name: fields.pop(name) for name in ("service", "response", "behind")}
        return {
            "schema": SCHEMA,
            "event": "summary",
            **fields,
            "errors": {str(cause): count for cause, count in self.errors.items()},
            "round_trips_per_second": self.round_trips_per_second,
            **{f"{name}_ns": figures(each) for name, each in times.items()},
            **{
                f"{name}_histogram": None if each is None else each.to_json()
                for name, each in times.items()
            },
        }

    @classmethod
    def from_json(cls, data: object) -> LoadReport:
        """Take back what `to_json` gave.

        Raises:
            ValueError: it is not that; the text says what is wrong.
        """
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            raise ValueError(f"this is no report of schema {SCHEMA}: {str(data)[:60]!r}")
        try:
            fields: dict[str, Any] = {
                each.name: data.get(each.name) for each in attrs.fields(cls)
            }
            for name in ("service", "response", "behind"):
                found = data[f"{name}_histogram"]
                fields[name] = None if found is None else Histogram.from_json(found)
            for name in _COUNTS:
                data[name] + 0
            fields["errors"] = {Cause(name): count for name, count in data["errors"].items()}
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"the report lacks something, or has it wrong: {error}") from None
        return cls(**fields)


_COUNTS: Final = ("connections", "size", "pipeline", "seconds", "round_trips", "bytes")


def figures(histogram: Histogram | None) -> dict[str, int | None] | None:
    """Give the figures of a histogram, in nanoseconds; None for those it can't support."""
    if histogram is None:
        return None
    some = bool(histogram.count)
    return {
        "count": histogram.count,
        "min": histogram.least if some else None,
        "mean": histogram.mean,
        **{name: histogram.percentile(percent) for name, percent in _PERCENTS.items()},
        "max": histogram.most if some else None,
    }


def _sum_of(histograms: Sequence[Histogram | None]) -> Histogram:
    total = Histogram()
    for each in histograms:
        if each is not None:
            total.add(each)
    return total


def _sum_of_errors(reports: Sequence[LoadReport]) -> dict[Cause, int]:
    totals = {cause: sum(each.errors.get(cause, 0) for each in reports) for cause in Cause}
    return {cause: count for cause, count in totals.items() if count}
