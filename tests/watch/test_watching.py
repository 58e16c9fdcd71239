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


@attrs.define
class Own:
    """An object of the test's own, by which to tell whether the garbage collector looks.

    How many it overlooks does not tell: Python 3.12 counts what is immortal among them.
    """

    def is_overlooked(self) -> bool:
        """Say whether the garbage collector does not look at it."""
        return all(each is not self for each in gc.get_objects())


@pytest.fixture
def own() -> Iterator[Own]:
    """An object of the test's own; the garbage collector is as it was before."""
    own = Own()
    assert not own.is_overlooked()
    yield own
    gc.unfreeze()


@pytest.mark.parametrize(("count", "overlooked"), [(99, 0), (100, 1)])
async def test_the_garbage_collector_overlooks_many_targets_when_they_are_there(
    count: int, overlooked: int, own: Own, autojump_clock: MockClock
) -> None:
    """It does not look at them again from then on, and looks at all when it is over."""
    watch = Targets(some(count, 5.0))
    watching = Watching(watch, lambda _change: None)  # type: ignore[arg-type]  # what it asks of a Watch
    watching.reloaded = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watching.settle)
        await trio.sleep(5.9)  # the timeout is 1 s
        assert not own.is_overlooked()
        await trio.sleep(0.2)
        assert own.is_overlooked() == overlooked
        nursery.cancel_scope.cancel()
    assert not own.is_overlooked()


async def test_after_a_reload_it_looks_at_all_until_the_new_targets_are_there(
    own: Own,
    autojump_clock: MockClock,
) -> None:
    """What is gone is not kept for ever."""
    watch = Targets(some(200, 5.0))
    watching = Watching(watch, lambda _change: None)  # type: ignore[arg-type]  # what it asks of a Watch
    watching.reloaded = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watching.settle)
        await trio.sleep(10)
        assert own.is_overlooked()
        watch.targets = some(200, 20.0)
        watching.reloaded.set()
        await trio.sleep(20)
        assert not own.is_overlooked()
        await trio.sleep(2)
        assert own.is_overlooked()
        nursery.cancel_scope.cancel()
