"""The timer: never too early, and nothing else of the run is held up meanwhile."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from helpers import PATIENCE
from techo._probing import timer
from techo._probing.timer import Timer, open_timer


@pytest.fixture(params=["timerfd", "trio"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's timer, and where there is none to be had."""

    def fail() -> int:
        raise OSError("none")

    if request.param == "trio":
        monkeypatch.setattr(timer, "_create", fail)


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.00001, 0.0004, 0.0015, 0.00999])
async def test_it_wakes_up_when_it_is_time_and_never_before(seconds: float) -> None:
    """Less than a millisecond works too; what is past is no time at all."""
    with open_timer() as sleeper, trio.fail_after(PATIENCE):
        for _ in range(10):
            due = trio.current_time() + seconds
            await sleeper.sleep_until(due)
            assert trio.current_time() >= due


@pytest.mark.usefixtures("without")
async def test_it_is_a_checkpoint_and_is_cancelled_like_any_sleep() -> None:
    """In the coarse part, in the fine part, and when there is no time to wait."""
    with open_timer() as sleeper:
        for seconds in (PATIENCE, 0.001, 0.0, -1.0):
            with trio.CancelScope() as scope:
                scope.cancel()
                await sleeper.sleep_until(trio.current_time() + seconds)
            assert scope.cancelled_caught


@pytest.mark.usefixtures("without")
async def test_other_tasks_have_their_turns_meanwhile() -> None:
    """Each sleep is shorter than trio could make it, and still leaves the run alone."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with open_timer() as sleeper:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            for _ in range(20):
                await sleeper.sleep_until(trio.current_time() + 0.0009)
            assert turns > 10  # each may come before or behind one of the count's
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("without")
async def test_it_sleeps_in_the_time_of_the_run(autojump_clock: trio.testing.MockClock) -> None:
    """Years pass at once where time is virtual, to the last microsecond."""
    with open_timer() as sleeper:
        for seconds in (1e8, 0.5, 0.0015, 1e-6):
            due = trio.current_time() + seconds
            await sleeper.sleep_until(due)
            assert trio.current_time() == pytest.approx(due, rel=1e-12)


async def test_a_clock_that_stands_still_is_no_reason_to_spin(
    mock_clock: trio.testing.MockClock,
) -> None:
    """It waits without a turn until somebody moves the clock."""
    slept = trio.Event()

    async def sleep(sleeper: Timer) -> None:
        await sleeper.sleep_until(trio.current_time() + 0.001)
        slept.set()

    with open_timer() as sleeper:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sleep, sleeper)
            await trio.testing.wait_all_tasks_blocked()
            assert not slept.is_set()
            mock_clock.jump(1)
            await slept.wait()
            nursery.start_soon(sleep, sleeper)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
