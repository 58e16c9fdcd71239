"""compare: which figures have changed, which may have, and of which nothing can be said."""

from __future__ import annotations

import math
from typing import Any

import pytest

import techo
from comparisons import noisy, run
from schemas import kind_of


def verdicts(comparison: techo.Comparison) -> dict[str, str]:
    """Return the verdict on each figure."""
    return {name: str(each.verdict) for name, each in comparison.figures.items()}


@pytest.fixture(scope="module")
def sides() -> tuple[list[techo.LoadReport], list[techo.LoadReport]]:
    """Make two sides of ten runs with 3 % of noise, the second a tenth slower."""
    return noisy(10, noise=0.03, seed=1), noisy(10, noise=0.03, seed=2, milliseconds=1.1)


@pytest.fixture(scope="module")
def slower(
    sides: tuple[list[techo.LoadReport], list[techo.LoadReport]],
) -> techo.Comparison:
    """Compare the two."""
    return techo.compare(*sides)


def test_a_shift_is_shown_and_in_its_interval(slower: techo.Comparison) -> None:
    """Of all times, and of the rate; the loss has not changed."""
    assert verdicts(slower) == {
        **dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9", "mean", "rate"), "worse"),
        "loss": "no_change_shown",
    }
    for name, figure in slower.figures.items():
        if name != "loss":
            assert not figure.reason
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low < (-100 / 11 if name == "rate" else 10) < figure.high
            assert figure.p is not None
            assert figure.p <= 0.05
            assert figure.confidence is not None
            assert 95 <= figure.confidence < 100
    assert slower.figures["loss"].change == 0
    assert kind_of(slower.to_json()) == "comparison"


def test_the_other_way_round_it_is_better(
    slower: techo.Comparison, sides: tuple[list[techo.LoadReport], list[techo.LoadReport]]
) -> None:
    """What was slower is faster, by as much the other way."""
    back = techo.compare(*reversed(sides))
    assert set(verdicts(back).values()) == {"better", "no_change_shown"}
    ratios = [1 + (each.figures["p99"].change or 0) / 100 for each in (slower, back)]
    assert math.prod(ratios) == pytest.approx(1)


def test_the_order_of_runs_makes_no_difference(
    slower: techo.Comparison, sides: tuple[list[techo.LoadReport], list[techo.LoadReport]]
) -> None:
    """The same runs have the same answer, given in any order and by any iterable."""
    again = techo.compare(iter(sides[0][::-1]), sides[1][3:] + sides[1][:3])
    assert again.figures == slower.figures


def test_a_figure_is_the_mean_of_the_runs() -> None:
    """The geometric one of times, whatever a run's length; the arithmetic one of losses."""
    runs = [run(1, lost=10), run(4), run(2), run(2, trips=10_000)]
    figures = techo.compare(runs, runs).figures
    assert figures["p50"].before == pytest.approx(2e6, rel=0.01)
    assert figures["loss"].before == pytest.approx(100 * 10 / 1010 / 4)
    assert figures["rate"].after == pytest.approx(500)


@pytest.mark.parametrize(("before", "after"), [(4, 10), (10, 4), (1, 1)])
def test_too_few_runs_tell_nothing(before: int, after: int) -> None:
    """It takes five a side; the figures of both are shown all the same."""
    comparison = techo.compare([run()] * before, [run(9)] * after)
    assert not comparison.enough
    assert set(verdicts(comparison).values()) == {"cannot_tell"}
    assert all(each.change is None for each in comparison.figures.values())
    assert comparison.figures["p50"].after == pytest.approx(9e6, rel=0.01)
    assert kind_of(comparison.to_json()) == "comparison"
    assert f"there are {before} before and {after} after; take more" in " ".join(
        str(comparison).split()
    )


@pytest.mark.parametrize(
    ("odd", "figure", "reason"),
    [
        (run(trips=99), "p99", "1 of 5 runs after had fewer than the 100 trips that it needs"),
        (run(lost=200), "p90", "1 of 5 runs after lost so many trips that it is among them"),
        (run(trips=0), "mean", "1 of 5 runs after had nothing back"),
        (run(trips=0), "rate", "1 of 5 runs after had 0"),
        (run(trips=0), "loss", "1 of 5 runs after had no trips"),
    ],
)
def test_what_a_run_lacks_is_unknown(odd: techo.LoadReport, figure: str, reason: str) -> None:
    """The reason names the side and the number of runs; other figures are compared."""
    before, after = noisy(5, noise=0.03, seed=1), noisy(4, noise=0.03, seed=2)
    comparison = techo.compare(before, [*after, odd])
    found = comparison.figures[figure]
    assert (found.verdict, found.reason) == (techo.Verdict.UNKNOWN, reason)
    assert f": cannot tell, {reason}" in " ".join(str(comparison).split())
    assert kind_of(comparison.to_json()) == "comparison"


def test_runs_that_are_all_alike() -> None:
    """No noise and no difference is no change; with a difference it is one, and exact."""
    comparison = techo.compare([run()] * 5, [run()] * 5)
    assert set(verdicts(comparison).values()) == {"no_change_shown"}
    comparison = techo.compare([run()] * 5, [run(2)] * 5)
    assert comparison.figures["loss"].verdict == techo.Verdict.NOT_SHOWN
    for name in ("p50", "p99.9", "mean"):
        figure = comparison.figures[name]
        assert figure.verdict == techo.Verdict.WORSE
        assert figure.change == pytest.approx(100, rel=0.01)
        assert figure.low == figure.high == figure.change
    assert comparison.figures["rate"].change == pytest.approx(-50)


def test_a_dead_server_is_slower_and_loses_more() -> None:
    """Five runs without a reply are shown: times without a percentage, as there is none."""
    alive, dead = noisy(5, noise=0.03, seed=1), [run(trips=0, lost=1000)] * 5
    comparison = techo.compare(alive, dead)
    shown = dict.fromkeys(("p50", "p90", "p95", "p99", "p99.9", "loss", "rate"), "worse")
    assert verdicts(comparison) == shown | {"mean": "cannot_tell"}
    figures = comparison.figures
    assert (figures["p99"].change, figures["p99"].low) == (math.inf, None)
    loss = figures["loss"]
    assert (loss.low, loss.change, loss.high) == (100, 100, 100)
    assert (figures["rate"].change, figures["rate"].low) == (-100, None)
    lines = {line.split()[0]: line.split() for line in str(comparison).splitlines() if line}
    assert lines["p99"][-4:] == ["lost", "-", "-", "slower"]
    assert comparison.to_json()["figures"]["p99"]["change"] is None
    assert kind_of(comparison.to_json()) == "comparison"
    back = techo.compare(dead, alive)
    assert set(verdicts(back).values()) == {"better", "cannot_tell"}
    assert back.figures["rate"].change == math.inf


def test_a_loss_now_and_then_is_no_change() -> None:
    """One run of five that lost a trip, where none did before, may be chance: no bounds."""
    before = noisy(5, noise=0.03, seed=1)
    figure = techo.compare(before, [*before[:4], run(lost=1)]).figures["loss"]
    assert (figure.verdict, figure.low, figure.high) == (techo.Verdict.NOT_SHOWN, None, None)
    assert figure.change is not None
    assert figure.change > 0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([], [run()], "there is no run before"),
        ([run()], [], "there is no run after"),
        ([run()], [run(size=1024)], "messages differ in size: 64 before, 1,024 after bytes"),
        ([run(rate=5.0)], [run()], "some runs have a rate and others have not"),
        ([run(), run(rate=5.0)], [run()], "some runs have a rate"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    before: list[techo.LoadReport], after: list[techo.LoadReport], said: str
) -> None:
    """The error says what differs."""
    with pytest.raises(ValueError, match=said):
        techo.compare(before, after)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"pipeline": 4}, "not the same: messages in flight on each, 1 before, 1 or 4 after"),
        (
            {"reconnect_every": 10},
            "not the same: trips until each reconnects, none before, 10 or none after",
        ),
        (
            {"rate": 9.0, "arrivals": "poisson"},
            "not the same: arrivals, uniform before, poisson or uniform after",
        ),
        ({"gave_up_after_seconds": 1.5}, "it gave up early in 1 of 2 runs after"),
        ({"trips": 0}, "nothing came back in 1 of 2 runs after"),
    ],
)
def test_one_run_that_is_not_like_the_others_is_named(
    fields: dict[str, Any], note: str
) -> None:
    """It is named on its side, even if others of that side are like the other side."""
    plain = run(rate=9.0, arrivals="uniform") if "arrivals" in fields else run()
    assert techo.compare([plain], [plain, run(**fields)]).notes == [note]


def test_other_differences_are_named() -> None:
    """What was asked for otherwise, and runs that say little of the server."""
    before = [run(rate=100.0), run(rate=100.0, client_was_limit=True)]
    after = [run(rate=200.0, connections=5, failures={techo.FailureCause.LOCAL: 1})]
    assert techo.compare(before, after).notes == [
        "not the same: connections, 10 before, 5 after",
        "not the same: trips/s wanted, 100 before, 200 after",
        "the client was the limit in 1 of 2 runs before",
        "the client's own machine fell short in 1 of 1 runs after",
    ]
    assert not techo.compare([run()], [run()]).notes


def test_a_repr_is_short() -> None:
    """It has the verdicts, and not all of the runs."""
    shown = repr(techo.compare([run()] * 5, [run()] * 5))
    assert shown.startswith("<Comparison of 5 runs with 5: p50 no_change_shown, ")
    assert len(shown) < 300
