"""Sums: what several processes have counted, as if one had."""

from __future__ import annotations

import itertools
import json
from typing import Any

import attrs

import techo
from techo._operate.sums import Report, added, settled, statistics_of
from techo._operate.workers import share


def report(accepted: int, active: int, **more: object) -> Report:
    """Return what a worker has counted, all of whose connections but the active ones ended."""
    service = techo.EchoService()
    found = attrs.asdict(service.statistics())
    outcomes = {str(each): 0 for each in techo.Outcome}
    outcomes["eof"] = accepted - active
    return {
        "statistics": {**found, "accepted": accepted, "active": active, "outcomes": outcomes},
        **more,
    }


def test_a_sum_has_every_number_of_both() -> None:
    """Numbers, also those in lists and objects, are added; what one alone has is kept."""
    one, other = (
        report(3, 1, durations={"counts": [1, 2]}),
        report(5, 0, durations={"counts": [3, 4]}),
    )
    found = added(one, other)
    assert (found["statistics"]["accepted"], found["statistics"]["active"]) == (8, 1)
    assert found["durations"] == {"counts": [4, 6]}
    assert added({}, one) == added(one, {}) == one
    assert added({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}


def test_what_was_active_in_one_that_is_gone_is_aborted() -> None:
    """So what was accepted is still what is active and what has ended together."""
    found = statistics_of(added(settled(report(3, 2)), report(1, 1)))
    assert (found.accepted, found.active) == (4, 1)
    assert {each: count for each, count in found.outcomes.items() if count} == {
        techo.Outcome.EOF: 1,
        techo.Outcome.ABORTED: 2,
    }
    assert settled({}) == {}


def test_statistics_survive_being_reported() -> None:
    """Each number of a report is what the service had counted; without one all are 0."""
    nothing, numbers = techo.EchoService().statistics(), itertools.count(1)

    def counted(values: Any) -> Any:
        names = [each.name for each in attrs.fields(type(values))]
        simple = {name: next(numbers) for name in names if type(getattr(values, name)) is int}
        return attrs.evolve(values, **simple)

    datagrams = attrs.evolve(
        counted(nothing.datagrams), dropped={each: next(numbers) for each in techo.DropReason}
    )
    outcomes = {each: next(numbers) for each in techo.Outcome}
    found = attrs.evolve(counted(nothing), datagrams=datagrams, outcomes=outcomes)
    report = json.loads(json.dumps({"statistics": attrs.asdict(found)}))
    assert statistics_of(report) == found
    assert next(numbers) > 20
    assert statistics_of({}) == nothing


def test_shares_are_the_whole() -> None:
    """No two workers differ by more than one."""
    for total in range(3, 12):
        shares = [share(total, number, 3) for number in range(3)]
        assert sum(shares) == total
        assert max(shares) - min(shares) <= 1
