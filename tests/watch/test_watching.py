"""What the commands do beside watching, in virtual time."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import attrs
import pytest
import trio
from trio.testing import MockClock

import techo
from techo._cli.watching import Watching


@attrs.define
class Targets:
    """Stands for a watch."""

    targets: dict[str, techo.WatchTarget]


def some(count: int, interval: float) -> dict[str, techo.WatchTarget]:
    """Return targets, of which nothing is asked."""
    names = map(str, range(count))
    return {
        each: techo.WatchTarget(endpoint="127.0.0.1:1", name=each, interval=interval)
        for each in names
    }


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The garbage collector as it was before."""
    assert not gc.get_freeze_count()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("count", "frozen"), [(99, 0), (100, 1)])
async def test_the_garbage_collector_overlooks_many_targets_when_they_are_there(
    count: int, frozen: int, autojump_clock: MockClock
) -> None:
    """It does not look at them again from then on, and looks at all when it is over."""
    watch = Targets(some(count, 5.0))
    watching = Watching(watch, lambda _change: None)  # type: ignore[arg-type]  # what it asks of a Watch
    watching.reloaded = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watching.settle)
        await trio.sleep(5.9)  # the timeout is 1 s
        assert not gc.get_freeze_count()
        await trio.sleep(0.2)
        assert bool(gc.get_freeze_count()) == frozen
        nursery.cancel_scope.cancel()
    assert not gc.get_freeze_count()


async def test_after_a_reload_it_looks_at_all_until_the_new_targets_are_there(
    autojump_clock: MockClock,
) -> None:
    """What is gone is not kept for ever."""
    watch = Targets(some(200, 5.0))
    watching = Watching(watch, lambda _change: None)  # type: ignore[arg-type]  # what it asks of a Watch
    watching.reloaded = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watching.settle)
        await trio.sleep(10)
        assert gc.get_freeze_count()
        watch.targets = some(200, 20.0)
        watching.reloaded.set()
        await trio.sleep(20)
        assert not gc.get_freeze_count()
        await trio.sleep(2)
        assert gc.get_freeze_count()
        nursery.cancel_scope.cancel()
