"""Sums: counters of several processes as one, those of the dead included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import attrs

from techo._operate.counting import Counters, Durations
from techo._server.connection import Outcome
from techo._server.datagrams import DatagramStatistics, DropReason
from techo._server.registry import Statistics

Report: TypeAlias = dict[str, Any]
"""What one process has counted: numbers, in objects and lists of one form. ``statistics`` has
the fields of `Statistics`; what else is counted stands beside it."""

_NUMBERS: Final = attrs.fields_dict(Statistics).keys() - {"outcomes", "datagrams"}
_DATAGRAM_NUMBERS: Final = attrs.fields_dict(DatagramStatistics).keys() - {"dropped"}


def added(one: Any, other: Any) -> Any:
    """Return the sum of two reports, number by number; what only one of them has is kept."""
    if isinstance(one, Mapping):
        names = {**one, **other}
        return {
            name: added(one[name], other[name])
            if name in one and name in other
            else names[name]
            for name in names
        }
    if isinstance(one, list):
        return [added(*pair) for pair in zip(one, other, strict=True)]
    return one + other


def settled(report: Report) -> Report:
    """Return the report of a process that is gone: what was active then is aborted."""
    if not report:
        return report
    found = report["statistics"]
    aborted = {Outcome.ABORTED.value: found["active"]}
    outcomes = added(found["outcomes"], aborted)
    return {**report, "statistics": {**found, "active": 0, "parked": 0, "outcomes": outcomes}}


def counters_of(report: Report) -> Counters:
    """Return all that a report has; all 0 if it is empty."""
    durations = Durations(**report["durations"]) if "durations" in report else Durations()
    return Counters(statistics_of(report), durations)


def statistics_of(report: Report) -> Statistics:
    """Return the statistics that a report has; all 0 if it is empty."""
    found = report.get("statistics", {})
    datagrams = found.get("datagrams", {})
    outcomes, dropped = found.get("outcomes", {}), datagrams.get("dropped", {})
    return Statistics(
        **{name: found.get(name, 0) for name in _NUMBERS},
        outcomes={each: outcomes.get(each.value, 0) for each in Outcome},
        datagrams=DatagramStatistics(
            **{name: datagrams.get(name, 0) for name in _DATAGRAM_NUMBERS},
            dropped={each: dropped.get(each.value, 0) for each in DropReason},
        ),
    )
