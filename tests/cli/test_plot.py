"""The picture of a load: percentiles, and what happened when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from loads import check, connecting
from techo._cli.plot import figure_of
from techo._load.interval import Interval
from techo._load.plan import LoadPlan
from techo._load.timeline import Timeline
from techo._load.together import nothing
from techo.testing import MemoryStream

Clock = trio.testing.MockClock

SILENT_FROM, SILENT_TO = 1.995, 3.995
"""When the server does not answer, so that four trips are lost that wait half a second each."""


async def _answer(stream: MemoryStream) -> None:
    while data := await stream.receive_some(100):
        if SILENT_FROM <= trio.current_time() < SILENT_TO:
            await trio.sleep_forever()
        await trio.sleep(0.01)
        await stream.send_all(data)


async def drawn(*, every: float | None = None, **options: Any) -> tuple[techo.LoadReport, Any]:
    """The report of a load whose server is silent for two seconds, and its picture."""
    timeline = Timeline(every)
    async with trio.open_nursery() as nursery:
        connect = connecting(nursery, _answer)
        settings = {"connections": 1, "seconds": 8.0, "timeout": 0.5} | options
        report = check(await techo.load(connect, watch=timeline.take, **settings))
        nursery.cancel_scope.cancel()
    return report, figure_of(report, timeline.intervals(report))


def steps(axes: Any) -> dict[str, tuple[Sequence[float], Sequence[float]]]:
    """What is drawn in steps: values, and the edges of the steps, by the label."""
    found = [each for each in axes.patches if hasattr(each, "get_data")]
    return {each.get_label(): each.get_data()[:2] for each in found}


async def test_what_was_lost_and_when_is_beside_the_percentiles(
    autojump_clock: Clock,
) -> None:
    """Times, lost trips and the outage stand where they were, in seconds since counting."""
    report, figure = await drawn(every=1.0, rate=50.0)
    percentiles, times, rates = figure.axes
    assert percentiles.get_xlabel() == "percentile of round trips"
    assert times.get_ylabel() == "response time in ms"
    assert set(steps(times)) == {"p50", "p99"}
    values, edges = steps(times)["p50"]
    assert edges == pytest.approx(range(9), abs=0.21)
    assert values[:2] == pytest.approx([10, 10], rel=0.01)
    assert all(map(math.isnan, values[2:4]))  # nothing came back
    assert values[4] == pytest.approx(2000 - 500 / 2, rel=0.2)  # of a backlog, worked off
    assert values[7] == pytest.approx(10, rel=0.01)
    assert math.isnan(steps(times)["p99"][0][0])  # of 50 trips there is none
    (marks,) = times.lines
    assert marks.get_label() == "4 lost"
    assert list(marks.get_xdata()) == pytest.approx([2.5, 3.5, 4.5], abs=0.21)
    assert marks.get_clip_on() is False
    ((_, (rate, _)),) = steps(rates).items()
    assert rate == pytest.approx([50, 50, 0, 0, *[98] * 2, 50, 50], abs=45)
    assert report.outages == 1
    assert report.outage_seconds == pytest.approx(2, abs=0.2)  # until it was connected again
    for axes in (times, rates):
        (outage,) = (each for each in axes.patches if not hasattr(each, "get_data"))
        assert outage.get_x() == pytest.approx(2, abs=0.02)
        assert outage.get_width() == pytest.approx(report.outage_seconds)
    assert outage.get_label() == f"1 outage, {report.outage_seconds:.3f} s"


async def test_times_begin_with_the_counting(autojump_clock: Clock) -> None:
    """The warm-up is before them; what fails there is neither drawn nor moves the rest."""
    report, figure = await drawn(every=1.0, warm_up=1.0, seconds=4.0)
    _, times, _ = figure.axes
    assert times.get_xlim() == pytest.approx((0, report.seconds))
    (outage,) = (each for each in times.patches if not hasattr(each, "get_data"))
    assert outage.get_x() == pytest.approx(1, abs=0.02)


async def test_an_axis_is_logarithmic_if_times_lie_far_apart(
    autojump_clock: Clock,
) -> None:
    """Or what is usual could not be told from nothing beside the longest."""
    _, figure = await drawn(rate=50.0)
    assert figure.axes[1].get_yscale() == "log"
    _, figure = await drawn(seconds=1.0)
    assert figure.axes[1].get_yscale() == "linear"
    for axes in figure.axes[1:]:
        highest = max(max(values) for values, _ in steps(axes).values())
        assert axes.get_ylim() == pytest.approx((0, 1.1 * highest))  # and not at the edge
    assert figure.axes[1].get_ylabel() == "service time in ms"


async def test_without_intervals_there_are_the_percentiles_alone(
    autojump_clock: Clock,
) -> None:
    """A merged report has none, and one of a load in which nothing was counted neither."""
    report, _ = await drawn(seconds=1.0)
    assert len(figure_of(techo.LoadReport.merged([report, report])).axes) == 1
    timeline = Timeline()
    assert timeline.intervals(report)[0].received == report.received
    nothing = await techo.load(_refused, seconds=1.0, watch=timeline.take)
    assert nothing.never_reached
    assert timeline.intervals(nothing) == []


def test_a_load_of_which_nothing_is_over_is_drawn() -> None:
    """Stopped twice before anything came back, it has no step and no legend."""
    report = attrs.evolve(nothing("tcp://127.0.0.1:8009", LoadPlan()), seconds=1.0, in_flight=3)
    _, times, rates = figure_of(report, [Interval.between(None, report)]).axes
    assert times.get_legend() is None
    assert not times.patches
    ((values, edges),) = steps(rates).values()
    assert (list(values), list(edges)) == ([0], [0, 1])


async def _refused() -> MemoryStream:
    await trio.lowlevel.checkpoint()
    raise ConnectionRefusedError
