"""systemd's watchdog: it hears that we live as long as everybody answers."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from techo._cli.systemd import keep_watchdog, watchdog_period


@pytest.mark.parametrize(
    ("variables", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_period_is_that_of_this_process(
    variables: dict[str, str], period: float | None
) -> None:
    """The variables are gone then, so that no process that we start takes them for its own."""
    assert watchdog_period(variables) == period
    assert not variables


async def test_systemd_hears_twice_in_a_period_while_all_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Where somebody does not answer, it hears nothing, until they do again."""
    heard: list[tuple[float, str]] = []
    begun = trio.current_time()

    async def answers() -> bool:
        await trio.lowlevel.checkpoint()
        return not 2 < trio.current_time() - begun < 5

    def notify(state: str) -> None:
        heard.append((trio.current_time() - begun, state))

    with trio.move_on_after(7):
        await keep_watchdog(notify, 2.0, answers)
    assert heard == [(second, "WATCHDOG=1") for second in (0, 1, 2, 5, 6)]


async def test_without_a_watchdog_nobody_is_asked() -> None:
    """It returns at once."""

    async def answers() -> bool:
        await trio.lowlevel.checkpoint()
        raise AssertionError("nobody wants to know")

    await keep_watchdog(print, None, answers)
