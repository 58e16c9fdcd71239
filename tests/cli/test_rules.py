"""Rules of --fail-if: how they are read, and when they fire."""

from __future__ import annotations

import math
import operator
from fractions import Fraction

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import techo
from techo._cli.rules import names_of
from techo._rules import COMPARE, LOAD, PING, Rule, Table

OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
UNITS = {
    "": 10**9,
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}


@pytest.mark.parametrize("comparison", OPERATORS)
@pytest.mark.parametrize("found", [4, 5, 6])
def test_it_fires_when_the_comparison_holds(comparison: str, found: int) -> None:
    """It does on either side of the limit, and on it."""
    rule = Rule.parse(f"lost{comparison}5", PING)
    fired = rule.judge({"lost": found}) is not None
    assert fired == OPERATORS[comparison](found, 5)


def test_a_bare_time_is_in_seconds() -> None:
    """It is in rules what it is in every option."""
    assert Rule.parse("p99>5", PING).limit == 5 * 10**9
    assert Rule.parse("p99>0.5", PING) == attrs.evolve(
        Rule.parse("p99>500ms", PING), text="p99>0.5"
    )


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**15),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", " ", "  "]),
)
def test_a_limit_is_in_its_unit(number: int, found: int, unit: str, blank: str) -> None:
    """It compares as exact arithmetic does, whatever the unit and the blanks."""
    rule = Rule.parse(f"{blank}p99{blank}>{blank}{number}{blank}{unit}{blank}", PING)
    assert (rule.judge({"p99": found}) is not None) == (Fraction(found) > number * UNITS[unit])


def test_it_says_what_was_found() -> None:
    """What was found is in the unit that people read."""
    for text, found, sentence in [
        ("p99 > 5ms", 7_200_000, "p99 > 5ms: p99 was 7.2 ms"),
        ("loss>0.1%", 0.25, "loss>0.1%: loss was 0.25 %"),
        ("rate<1e4", 9_000.5, "rate<1e4: rate was 9000.5/s"),
        ("rate<10000/s", 1, "rate<10000/s: rate was 1/s"),
        ("corrupt>0", 3, "corrupt>0: corrupt was 3"),
    ]:
        rule = Rule.parse(text, LOAD)
        assert rule.judge({rule.name: found}) == sentence


@pytest.mark.parametrize("found", [None, float("nan")])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("p99", "there were too few round trips"),
        ("connect.p99", "too few connections were opened"),
        ("probe.p99", "there were too few probes"),
        ("probe.growth", "there were too few probes"),
    ],
)
def test_what_cannot_be_judged_has_fired(found: float | None, name: str, reason: str) -> None:
    """Too few samples must not pass for a good verdict, and the text says of what."""
    sentence = Rule.parse(f"{name}<5s", LOAD).judge({name: found})
    assert sentence == f"{name}<5s: cannot tell, {reason}"


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("", 1, "no figure ''"),
        ("p98>5ms", 1, "did you mean p99? --help lists them"),
        ("round_trips<5", 1, "no figure 'round_trips': did you mean received?"),
        ("avg>5ms", 1, "did you mean mean?"),
        ("rate<5", 1, "no figure 'rate': only load and merge have it"),
        ("p99", 4, "expected one of >= <= == != > <"),
        ("p99=5ms", 4, "expected one of"),
        ("p99>", 5, "'' is not a time, such as 500ms, 2s or 1m; as in p99>5ms"),
        ("p99>fast", 5, "'fast' is not a time"),
        ("p99>-5ms", 5, "'-5ms' is not a time"),
        ("p99>nan ms", 5, "'nan ms' is not a time"),
        ("p99>5%", 5, "the units are ns, us, ms, s, m and h; as in p99>5ms"),
        ("p99>5M", 5, "M is for sizes, and a minute is 5m"),
        ("p99 > 5ms or so", 7, "'5ms or so' is not a time"),
        ("loss>1", 6, "'1' is not a share, such as 1%; write 100% or 1%; as in loss>0.1%"),
        ("loss<200%", 6, "'200%' is beyond 100%, which is all; as in loss<0.1%"),
        ("lost>1%", 6, "write 1: there is no unit here; as in lost>0"),
        ("p99>1e999ms", 5, "too large"),
    ],
)
def test_a_bad_rule_is_named_with_the_place(text: str, place: int, reason: str) -> None:
    """The error also says what is expected there."""
    with pytest.raises(ValueError, match="rule") as caught:
        Rule.parse(text, PING)
    assert f"rule {text!r}, character {place}: " in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("table", [PING, LOAD])
def test_every_cause_can_be_in_a_rule(table: Table) -> None:
    """The figures have every cause, and help lists them."""
    assert {str(cause) for cause in techo.FailureCause} <= table.keys()
    assert set(names_of(table).split()) > set(table)


@pytest.mark.parametrize("limit", ["5ms", "1000000s"])
def test_what_was_lost_is_slower_than_any_limit(limit: str) -> None:
    """A rule that a percentile is less has not fired, one that it is more has."""
    said = Rule.parse(f"p99>{limit}", PING).judge({"p99": math.inf})
    assert said == f"p99>{limit}: p99 was lost: so many did not come back"
    assert Rule.parse(f"p99<{limit}", PING).judge({"p99": math.inf}) is None


@pytest.mark.parametrize(
    ("text", "change", "said"),
    [
        ("p99>+10%", 12.345, "p99>+10%: p99 changed by +12.35 %"),
        ("p99>+10%", 10.0, None),
        ("p99 < -10 %", -10.5, "p99 < -10 %: p99 changed by -10.5 %"),
        ("rate<-0.5%", 3.0, None),
        ("p50>+0%", 0.0, None),
        ("p50<-0%", -0.1, "p50<-0%: p50 changed by -0.1 %"),
        ("loss>+0.1%", 0.25, "loss>+0.1%: loss changed by +0.25 percentage points"),
    ],
)
def test_a_change_has_a_sign(text: str, change: float, said: str | None) -> None:
    """A rule about a change compares it with its limit, sign included."""
    rule = Rule.parse(text, COMPARE)
    assert rule.judge({rule.name: change}) == said


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("p99>10%", 5, "'10%' is not a change, such as +10% or -5%; write +10% or -10%"),
        (
            "p99>+10",
            5,
            "'+10' is not a change, such as +10% or -5%; write +10%; as in",
        ),
        ("loss>0.1", 6, "write +0.1% or -0.1%; as in loss>+0.1%"),
        ("loss<-101%", 6, "'-101%' is beyond 100%, which is all; as in loss<+0.1%"),
        ("p99>5ms", 5, "'5ms' is not a change, such as +10% or -5%; as in p99>+10%"),
        ("p99>", 5, "'' is not a change"),
        ("p99>+-5%", 5, "'+-5%' is not a change"),
        ("p99>+1e999%", 5, "too large"),
        ("p99>-5%", 4, "> goes with +, and < with -, as in p99>+5% or p99<-5%"),
        ("rate<+5%", 5, "> goes with +, and < with -"),
        ("p99>=+5%", 4, "expected one of > <, as in p99>+10%"),
        ("p99!=+5%", 4, "expected one of > <, as in p99>+10%"),
        ("max>+5%", 1, "no figure 'max'"),
        ("unsent>+5%", 1, "no figure 'unsent': only load and merge have it"),
    ],
)
def test_a_bad_rule_about_a_change_is_named(text: str, place: int, reason: str) -> None:
    """The error has the place, what is wrong there and an example of what is right."""
    with pytest.raises(ValueError, match="rule") as caught:
        Rule.parse(text, COMPARE)
    assert f"rule {text!r}, character {place}: " in str(caught.value)
    assert reason in str(caught.value)
