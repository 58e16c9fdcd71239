"""Rules of watch: what they find in the counts of the last minute."""

from __future__ import annotations

from collections import Counter

import pytest

from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram
from techo._rules import COUNT, WATCH
from techo._watch.counts import Counts
from techo._watch.rules import parse_rule

MS = 1_000_000


def counted(*durations: int, lost: int = 0, **fields: int) -> Counts:
    """Return counts of round trips in milliseconds."""
    failures = Counter({FailureCause.TIMEOUT_REPLY: lost} if lost else {})
    return Counts(Histogram.of(each * MS for each in durations), failures, **fields)


@pytest.mark.parametrize(
    ("text", "counts", "found"),
    [
        ("p99>5ms", counted(*[1] * 59, 7), "p99 was 6.9"),
        ("p99>5ms", counted(*[1] * 99, 7), None),
        ("p50>5ms", counted(1, 1, 7), None),
        ("p99.9>5ms", counted(1, lost=1), "p99.9 was lost: so many did not come back"),
        ("min>1ms", counted(2, 3), "min was 2 ms"),
        ("mean>2ms", counted(2, 4), "mean was 3 ms"),
        ("max>2ms", counted(2, 3), "max was 3 ms"),
        ("loss>1%", counted(*[1] * 49, lost=1), "loss was 2 %"),
        ("lost>0", counted(1, lost=1), "lost was 1"),
        ("received<5", counted(1, 1), "received was 2"),
        ("failures>0", counted(lost=2), "failures was 2"),
        ("timeout-reply>0", counted(lost=2), "timeout-reply was 2"),
        ("refused>0", counted(lost=2), None),
        ("late>0", counted(1, late=1), "late was 1"),
        ("duplicate>0", counted(1, duplicate=2), "duplicate was 2"),
        ("corrupt>0", counted(1, corrupt=3), "corrupt was 3"),
        ("stray>0", counted(1, stray=4), "stray was 4"),
    ],
)
def test_a_rule_finds_its_figure(text: str, counts: Counts, found: str | None) -> None:
    """The sentence begins with the rule, and has the figure in the unit people read."""
    judged = parse_rule(text).judge(counts)
    assert judged is None if found is None else str(judged).startswith(f"{text}: {found}")


@pytest.mark.parametrize("name", sorted(set(WATCH)))
def test_a_rule_does_not_fire_while_there_is_nothing(name: str) -> None:
    """Nothing is known yet of a target that was not probed, and of no other's certificate."""
    rule = f"{name}>0" if WATCH[name] is COUNT else f"{name}>=0{'%' * (name == 'loss')}"
    assert parse_rule(rule).judge(Counts()) is None


def test_a_certificate_that_ends_soon_makes_a_rule_fire() -> None:
    """Its days come from beside the counts."""
    rule = parse_rule("certificate_days<14")
    assert rule.judge(Counts(), 13) == "certificate_days<14: certificate_days was 13 days"
    assert rule.judge(Counts(), 14) is None


def test_a_figure_that_only_others_have_is_named_with_them() -> None:
    """The error says which commands have it."""
    with pytest.raises(ValueError, match="no figure 'jitter': only ping has it"):
        parse_rule("jitter>1ms")
    with pytest.raises(ValueError, match="did you mean p99"):
        parse_rule("p98>1ms")
