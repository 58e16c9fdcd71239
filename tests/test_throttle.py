"""Throttling: one line at once, then one for each minute in which there were more."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from techo._throttle import PAUSE, Throttle


@attrs.define
class Book:
    """What was reported, with the seconds since the run began."""

    throttle: Throttle = attrs.field(init=False)
    reports: list[tuple[str, str, int, float, float]] = attrs.field(factory=list)
    begun: float = attrs.field(factory=trio.current_time)

    def __attrs_post_init__(self) -> None:
        self.throttle = Throttle(self._report)

    def _report(self, kind: str, latest: str, count: int, seconds: float) -> None:
        at = trio.current_time() - self.begun
        self.reports.append((kind, latest, count, seconds, at))


async def test_a_burst_makes_one_line_at_once_and_one_after_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The sum has the first event too, and says who was last."""
    book = Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.throttle.run)
        await trio.testing.wait_all_tasks_blocked()
        firsts = [book.throttle.note("full", f"peer {number}") for number in range(80)]
        assert firsts == [True] + [False] * 79
        await trio.sleep(59)
        assert not book.reports
        await trio.sleep(1000)
        assert book.reports == [("full", "peer 79", 80, PAUSE, PAUSE)]
        nursery.cancel_scope.cancel()


async def test_what_goes_on_makes_one_line_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Each sum has what came since the last; who runs the throttle twice changes nothing."""
    book = Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.throttle.run)
        nursery.start_soon(book.throttle.run)
        firsts = 0
        for _ in range(150):
            firsts += book.throttle.note("full", "peer")
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert firsts == 1
    assert [count for _, _, count, _, _ in book.reports] == [60, 60]
    book.throttle.flush()
    assert [each[2] for each in book.reports] == [60, 60, 30]


async def test_what_is_rare_has_its_own_line_each_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Nothing is summed up that was reported already."""
    book = Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.throttle.run)
        for _ in range(3):
            assert book.throttle.note("full", "peer")
            await trio.sleep(PAUSE + 1)
        nursery.cancel_scope.cancel()
    assert not book.reports


async def test_kinds_are_counted_apart(autojump_clock: trio.testing.MockClock) -> None:
    """Each has its first line, and its sum."""
    book = Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(book.throttle.run)
        assert [book.throttle.note(kind, kind) for kind in "aabab"] == [1, 0, 1, 0, 0]
        await trio.sleep(PAUSE + 1)
        nursery.cancel_scope.cancel()
    assert {kind: count for kind, _, count, _, _ in book.reports} == {"a": 3, "b": 2}


@pytest.mark.parametrize("end", ["flush", "next event"])
async def test_nothing_is_forgotten_where_nobody_runs_it(
    end: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Then the next event sums up what came before, or the end does."""
    book = Book()
    for _ in range(5):
        book.throttle.note("full", "peer")
    await trio.sleep(100)
    if end == "flush":
        book.throttle.flush()
        assert book.throttle.note("full", "peer")
    else:
        assert not book.throttle.note("full", "peer")
    assert book.reports == [("full", "peer", 5, 100.0, 100.0)]
