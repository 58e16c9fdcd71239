"""The standing of a target: what a row of probes makes of its state, and what is told."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._probing.failure_cause import FailureCause
from techo._watch.events import EventKind, State
from techo._watch.standing import Fate, Moment, Standing, Turn
from techo._watch.targets import Thresholds

AHEAD = 1_000_000.0
"""Unix time when the run's clock is 0."""


@attrs.define
class Row:
    """A target with a probe a second, each of which is over at once."""

    turns: list[Turn] = attrs.field(factory=list)
    now: float = 0.0
    standing: Standing = attrs.field(init=False)
    step: float = 0.0
    """By how much the wall clock was set."""

    def __attrs_post_init__(self) -> None:
        self.standing = Standing(Thresholds(), self.turns.append, self.moment)

    @property
    def moment(self) -> Moment:
        """Now."""
        return Moment(self.now, AHEAD + self.now + self.step)

    def probe(self, fates: str) -> None:
        """Have a probe answered for each ``.``, and lost for each ``x``."""
        for fate in fates:
            self.now += 1
            lost = (FailureCause.REFUSED, f"error {self.now:g}") if fate == "x" else (None, "")
            self.standing.follow(Fate(self.moment, self.moment, *lost))

    @property
    def states(self) -> str:
        """What was told, in order."""
        return " ".join(str(turn.state) for turn in self.turns)


@pytest.mark.parametrize(
    ("fates", "states"),
    [
        (".", ""),
        ("..", "up"),
        ("xx", ""),
        ("xxx", "down"),
        ("..xx..", "up"),
        ("..xx.xx.xx", "up"),
        ("..xxx", "up down"),
        ("..xxx.", "up down"),
        ("..xxx.x.x.x", "up down"),
        ("..xxx..", "up down up"),
        ("xxx..xxx..", "down up down up"),
    ],
)
def test_three_lost_running_are_down_and_two_answered_are_up(fates: str, states: str) -> None:
    """And nothing else is; at first it takes as many."""
    row = Row()
    row.probe(fates)
    assert row.states == states


def test_an_outage_is_from_the_first_lost_to_the_first_answered() -> None:
    """With how many were lost, why, and the first and last words, whatever the wall says."""
    row = Row()
    row.probe("..xxx")
    row.step = -3600
    row.probe("x.x..")
    down, up = row.turns[1:]
    assert down.began is not None
    assert (down.began.since, down.began.probes, down.began.until) == (AHEAD + 3, 3, None)
    assert up.ended is not None
    assert up.ended.kind is EventKind.DOWN
    assert (up.ended.since, up.ended.seconds, up.ended.probes) == (AHEAD + 3, 6, 5)
    assert (up.ended.first_error, up.ended.last_error) == ("error 3", "error 8")
    assert up.ended.cause is FailureCause.REFUSED
    assert row.standing.since.at == AHEAD + 9 - 3600


def test_a_rule_degrades_what_is_up_and_not_what_is_down() -> None:
    """As long as it holds, with what was found first and last."""
    row = Row()
    row.standing.judge("slow", row.moment)
    row.probe("..")
    for found in ("slow 1", "slow 2", None, "slow 3"):
        row.now += 100
        row.standing.judge(found, row.moment)
    row.probe("xxx")
    row.standing.judge("slow 4", row.moment)
    assert row.states == "up degraded up degraded down"
    first, over, _, down = row.turns[1:]
    assert first.began is not None
    assert (first.began.kind, first.began.first_error) == (EventKind.DEGRADED, "slow 1")
    assert over.ended is not None
    assert (over.ended.seconds, over.ended.last_error) == (200, "slow 2")
    assert down.ended is not None
    assert down.ended.seconds == 1  # until the first of the lost was sent


def test_more_than_three_changes_in_five_minutes_are_one_event() -> None:
    """It goes on until five minutes were quiet, and has all that was lost meanwhile."""
    row = Row()
    row.probe("..xxx..xxx..")
    assert row.states == "up down up down flapping"
    flapping = row.turns[-1]
    assert flapping.ended is not None
    assert flapping.ended.kind is EventKind.DOWN
    assert flapping.began is not None
    assert flapping.began.since == AHEAD + 5  # the first of the four changes
    row.probe("xxx..xxx")
    row.standing.settle_down(row.moment)
    row.now += 300
    row.standing.settle_down(row.moment)
    assert row.states == "up down up down flapping down"
    over = row.turns[-1]
    assert over.ended is not None
    assert (over.ended.kind, over.ended.probes) == (EventKind.FLAPPING, 6)
    assert over.ended.seconds == row.now - 5
    assert over.began is not None
    assert (over.began.kind, over.began.probes) == (EventKind.DOWN, 3)
    row.now += 400
    row.probe("..")
    assert row.states.endswith("flapping down up")


def test_slow_changes_are_no_flapping() -> None:
    """Four in five minutes and a second are each told."""
    row = Row()
    for fates in ("..", "xxx", "..", "xxx", "..", "xxx"):
        row.probe(fates)
        row.now += 100
    assert row.states == "up down up down up down"


@given(st.lists(st.sampled_from([".", "x", "rule", "fine", "wait"]), max_size=60))
def test_what_begins_ends_before_the_next_begins(steps: list[str]) -> None:
    """Each change is from the state told before; an event ends with the state that it is."""
    row = Row()
    for step in steps:
        if step == "wait":
            row.now += 200
            row.standing.settle_down(row.moment)
        elif step in ("rule", "fine"):
            row.standing.judge("slow" if step == "rule" else None, row.moment)
        else:
            row.probe(step)
    state = State.UNKNOWN
    for turn in row.turns:
        assert turn.before is state
        assert turn.state is not state
        state = turn.state
        assert turn.ended is None or (turn.ended.seconds or 0) >= 0
        lasting = {State.DOWN, State.DEGRADED, State.FLAPPING}
        assert (turn.began is not None) == (state in lasting)
        assert turn.began is None or str(turn.began.kind) == str(state)
    assert row.standing.state is state
