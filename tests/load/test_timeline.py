"""The timeline of a load: how its reports become intervals that can be drawn."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import attrs
import pytest

import techo
from techo._load.interval import Interval
from techo._load.timeline import Timeline
from techo.testing import open_memory_server


@pytest.fixture
async def first() -> techo.LoadReport:
    """A report of one trip, which others are made of."""
    async with open_memory_server(reply=techo.raw) as server:
        return await techo.load(server.connect, connections=1, trips=1)


def reports(first: techo.LoadReport, seconds: float, rate: float) -> Iterator[techo.LoadReport]:
    """The reports of an even load, five a second and some milliseconds late, and the last."""
    for number in range(int(5 * seconds)):
        at = number / 5 + (number % 7) / 1000
        yield so_far(first, at, rate)
    yield so_far(first, seconds, rate)


def so_far(first: techo.LoadReport, seconds: float, rate: float) -> techo.LoadReport:
    """A report after so many seconds of so many trips a second, all as long."""
    count = int(seconds * rate)
    (bucket,) = first.service.buckets
    total = count * first.service.max
    service = attrs.evolve(
        first.service, buckets=collections.Counter({bucket: count}), count=count, sum=total
    )
    return attrs.evolve(first, seconds=seconds, received=count, service=service)


def cut(
    first: techo.LoadReport, seconds: float, rate: float, every: float | None = None
) -> list[Interval]:
    """The intervals of such a load."""
    timeline = Timeline(every)
    for each in reports(first, seconds, rate):
        timeline.take(each)
    return timeline.intervals(each)


@pytest.mark.parametrize("seconds", [3.0, 15.0, 61.03, 400.0])
async def test_however_long_a_load_is_intervals_are_few(  # noqa: ASYNC124  -- its fixture is
    seconds: float, first: techo.LoadReport
) -> None:
    """They add up to it, none is missing between two, and all are as long, but the last."""
    found = cut(first, seconds, 100 / 0.19)
    assert min(50, seconds / 0.2) <= len(found) + 1 <= 101
    assert sum(each.received for each in found) == int(seconds * 100 / 0.19)
    assert sum(each.seconds for each in found) == pytest.approx(seconds)
    assert [each.begin + each.seconds for each in found[:-1]] == pytest.approx(
        [each.begin for each in found[1:]]
    )
    *lengths, last = [each.seconds for each in found]
    assert max(lengths) - min(lengths) < 0.02
    assert lengths[0] / 2 - 0.02 <= last <= 1.5 * lengths[0] + 0.02


async def test_intervals_are_joined_until_most_of_them_have_a_p99(  # noqa: ASYNC124  -- as above
    first: techo.LoadReport,
) -> None:
    """That takes a hundred trips, which are five seconds at twenty a second."""
    found = cut(first, 120, 20)
    assert 120 / 10 <= len(found) <= 120 / 5
    assert sum(each.percentile(99) is not None for each in found) >= 0.75 * len(found)


async def test_a_length_that_was_given_is_kept(  # noqa: ASYNC124  -- as above
    first: techo.LoadReport,
) -> None:
    """Whether there is much to say of each interval or not."""
    found = cut(first, 10, 5, every=2.0)
    assert [each.received for each in found] == [10] * 5
    assert len(cut(first, 200, 1, every=0.2)) <= 500  # of a thousand: no picture is so wide


async def test_a_load_shorter_than_an_interval_is_one(  # noqa: ASYNC124  -- as above
    first: techo.LoadReport,
) -> None:
    """It is from the beginning to the end."""
    (only,) = cut(first, 0.1, 100)
    assert (only.begin, only.received) == (0, 10)
