"""What must hold: how it is read, how many trips show it, and when it cannot hold any more."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

import techo
from capacities import MS, report
from techo._capacity.client import shortcoming
from techo._capacity.objectives import Objectives, read_objective
from techo._capacity.plan import SearchPlan
from techo._capacity.search import Trial
from techo._load.part import LoadPart
from techo._probing.failure_cause import FailureCause


def missed(slo: str, found: techo.LoadReport) -> list[str]:
    """What did not hold of one SLO, as text."""
    return [str(each) for each in Objectives.of([slo], 0.02).missed(found, 100)]


@pytest.mark.parametrize(
    ("slo", "fields", "expected"),
    [
        ("p99<5ms", {}, []),
        ("p99<1ms", {}, ["p99<1ms (was 1.000 ms)"]),
        ("p99<5ms", {"unsent": 2}, ["p99<5ms (so many were lost)", "unsent==0 (was 2)"]),
        ("loss<1%", {"unsent": 2}, ["loss<1% (was 1.961 %)", "unsent==0 (was 2)"]),
        ("p99.9<5ms", {}, ["p99.9<5ms (there were too few round trips)"]),
        ("p50<5ms", {"reconnects": 3}, ["reconnects==0 (was 3)"]),
        ("reconnects<5", {"reconnects": 3}, []),
        (
            "p50<5ms",
            {"failures": {"refused": 2}},
            ["2 failures beside lost trips (refused 2)"],
        ),
        ("failures<5", {"failures": {"refused": 2}}, []),
        ("loss<1%", {"seconds": 1.09}, []),
        (
            "loss<1%",
            {"seconds": 1.2},
            ["it fell behind: took 1.20 s for what was due in 1.00 s"],
        ),
        ("p99<200ms", {"seconds": 1.2}, []),
        ("loss<3%", {"lost": 2, "failures": {"timeout-reply": 2}}, []),
        ("loss<3%", {"lost": 2, "failures": {"timeout-reply": 2}, "seconds": 2.0}, []),
        (
            "loss<3%",
            {
                "lost": 2,
                "failures": {"timeout-reply": 2},
                "seconds": 2.0,
                "response": techo.Histogram.of([MS] * 99 + [900 * MS]),
            },
            ["it fell behind: took 2.00 s for what was due in 1.00 s"],
        ),
    ],
)
def test_what_does_not_hold_is_named(
    slo: str, fields: dict[str, Any], expected: list[str]
) -> None:
    """What was lost, unsent or broken counts, and too few trips never pass."""
    assert missed(slo, report(**fields)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("p99>5ms", "did you mean p99<5ms"),
        ("loss>=1%", "did you mean loss<=1%"),
        ("lost!=0", "did you mean lost<=0"),
        ("rate<100", "no figure 'rate'"),
        ("service.p99<5ms", "no figure 'service.p99'"),
        ("p98<5ms", "no figure 'p98'"),
        ("max<0s", "'max<0s': no server can do that; did you mean max<5ms"),
        ("p99==0s", "did you mean p99<5ms"),
        ("connect.p50<=0", "did you mean connect.p50<5ms"),
        ("loss<0%", "did you mean loss==0"),
        ("lost<0", "did you mean lost==0"),
    ],
)
def test_what_can_not_hold_up_to_a_capacity_is_refused(text: str, reason: str) -> None:
    """The other way round, about what the rate itself is, or what nothing can hold."""
    with pytest.raises(ValueError, match=reason):
        read_objective(text)


def test_a_bare_number_is_seconds() -> None:
    """As in every other rule."""
    assert read_objective("p99<5").limit == 5e9


def test_a_step_that_ended_early_names_what_ended_it_only() -> None:
    """A percentile that had too few trips by then has neither held nor failed."""
    objectives, early = Objectives.of(["p99<5ms"], 0.02), report([1] * 20, reconnects=3)
    hopeless = objectives.hopeless(early, 100)
    assert [*map(str, hopeless)] == ["reconnects==0 (at least 3)"]
    assert [*map(str, objectives.missed(early, 100, hopeless))] == ["reconnects==0 (was 3)"]
    whole = objectives.missed(early, 100)
    assert str(whole[0]) == "p99<5ms (there were too few round trips)"


@pytest.mark.parametrize(
    ("slo", "rate", "short", "long"),
    [
        ("p99<5ms", 1000, 5000, 15_000),
        ("p99<5ms", 10, 100, 300),
        ("p99.9<5ms", 10, 1000, 3000),
        ("loss<0.1%", 10, 1000, 3000),
        ("loss==0%", 10, 50, 150),
        ("p50<1s", 10, 50, 500),  # a queue that grows by 2 % is a second long after 50 s
    ],
)
def test_a_step_has_as_many_trips_as_its_figures_need(
    slo: str, rate: float, short: int, long: int
) -> None:
    """However low the rate is; and what confirms lasts until a queue would be seen."""
    plan = SearchPlan(slo=slo)
    assert plan.trips(Trial(rate, confirming=False), None) == short
    assert plan.trips(Trial(rate, confirming=True), None) == long


def test_times_of_connecting_take_connections() -> None:
    """As many as trips otherwise; where they stay open there are none."""
    plan = SearchPlan(slo="connect.p99<50ms")
    assert plan.trips(Trial(10, confirming=False), 1) == 100
    assert plan.trips(Trial(10, confirming=False), 5) == 500
    with pytest.raises(ValueError, match="connections stay open"):
        plan.trips(Trial(10, confirming=False), None)


@pytest.mark.parametrize(
    ("slo", "slow", "fields", "hopeless"),
    [
        ("p99<5ms", 10, {}, False),
        ("p99<5ms", 11, {}, True),
        ("loss<1%", 0, {"lost": 9, "failures": {"timeout-reply": 9}}, False),
        ("loss<1%", 0, {"lost": 10, "failures": {"timeout-reply": 10}}, True),
        ("max<5ms", 1, {}, True),
        ("p50<5ms", 90, {"unsent": 900}, False),
        ("p50<5ms", 0, {"reconnects": 1}, True),
        ("p50<5ms", 0, {"failures": {"refused": 1}}, True),
    ],
)
def test_a_load_is_hopeless_when_the_best_end_would_not_help(
    slo: str,
    slow: int,
    fields: dict[str, Any],
    hopeless: bool,  # noqa: FBT001  -- what is expected
) -> None:
    """Of 1,000 trips in all 100 are over, of which some were slow."""
    found = report([MS] * (100 - slow) + [9 * MS] * slow, **fields)
    assert bool(Objectives.of([slo], 0.02).hopeless(found, 1000)) is hopeless


def shortcoming_of(
    slo: str, found: techo.LoadReport, *lags: int, quickest: float | None = None
) -> str:
    """Why the client was the limit, if it was, of a load that has missed an SLO."""
    not_held = Objectives.of([slo], 0.02).missed(found, 100)
    assert not_held
    short = shortcoming(found, not_held, techo.Histogram.of(lags), quickest)
    return "" if short is None else f"{short.why}; {short.remedy}"


def test_a_client_that_was_the_limit_says_why() -> None:
    """Its processor, its own delay, its buffers, its machine, or one of several that died."""
    slow = report([9 * MS] * 100)
    assert shortcoming_of("p99<5ms", slow) == ""
    busy = attrs.evolve(slow, client_cpu_percent=97.0, client_was_limit=True)
    assert "97 % of a core" in shortcoming_of("p99<5ms", busy)
    assert "4.000 ms late itself" in shortcoming_of("p99<5ms", slow, *[4 * MS] * 100)
    assert shortcoming_of("p99<5ms", slow, *[MS] * 100) == ""
    # Its delay explains no connections that are lost.
    broken = attrs.evolve(slow, reconnects=1)
    assert shortcoming_of("p99<5ms", broken, *[4 * MS] * 100) == ""
    dropped = report(lost=4, failures={FailureCause.TIMEOUT_REPLY: 4}, dropped_here=2)
    assert "2 datagrams came back" in shortcoming_of("loss<1%", dropped)
    local = report(failures={FailureCause.LOCAL: 2})
    assert "2 failures of this machine" in shortcoming_of("loss<1%", local)
    dead = LoadPart.of("10.0.0.3:9000", slow, "the scheduler has lost it")
    shared = attrs.evolve(slow, unsent=50, parts=[LoadPart.of("10.0.0.2:9000", slow), dead])
    assert shortcoming_of("p99<5ms", shared) == "10.0.0.3:9000 died; start its worker again"


def test_connections_that_are_all_busy_are_too_few_unless_the_server_is_slower() -> None:
    """Ten that wait 9 ms for each of 1,100 trips a second have no room to spare."""
    full = report([9 * MS] * 1100)
    assert r"all connections (10) were busy" in shortcoming_of("p99<5ms", full, quickest=8e6)
    assert shortcoming_of("p99<5ms", full, quickest=MS) == ""
    assert shortcoming_of("p99<5ms", full) == ""
    spare = attrs.evolve(full, connections=20)
    assert shortcoming_of("p99<5ms", spare, quickest=8e6) == ""
