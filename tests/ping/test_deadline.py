"""Deadlines: what ends a ping sooner than its count, in virtual time."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import trio
import trio.testing

import techo
from pings import word_of
from techo import testing

pytestmark = pytest.mark.usefixtures("unix_time")


async def refuse() -> NoReturn:
    """Connect to nobody."""
    await trio.lowlevel.checkpoint()
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    ("stalls", "options", "words", "seconds"),
    [
        (False, {"deadline": 2.5}, "reply reply reply", 2.5),  # the time is over
        (False, {"deadline": 9.0, "count": 2}, "reply reply", 1.0),  # so many are enough
        (False, {"deadline": 9.0, "size": range(1, 4)}, "reply reply reply", 2.0),
        # More are sent until so many have come back, as ping(8) does, here in vain.
        (True, {"deadline": 3.5, "count": 2}, "timeout-reply timeout-reply timeout-reply", 3.5),
        # What nobody reports may get better; an error does not, as far as ping(8) knows.
        (None, {"deadline": 9.0, "count": 3}, "refused", 0.0),
        (None, {"count": 2}, "refused refused", 1.0),
    ],
)
async def test_it_is_over_when_ping8_would_be(
    stalls: bool | None,  # noqa: FBT001  -- a parameter of the test
    options: dict[str, Any],
    words: str,
    seconds: float,
    autojump_clock: trio.testing.MockClock,
) -> None:
    """At the deadline, after so many replies, or at an error: whatever comes first."""
    faults = [testing.Stall()] if stalls else []
    async with testing.open_memory_server(reply=techo.raw, faults=faults) as server:
        target = refuse if stalls is None else server.connect
        begun = trio.current_time()
        async with techo.ping(target, **options) as ping:
            found = [word_of(result) async for result in ping]
        assert trio.current_time() - begun == pytest.approx(seconds)
    assert " ".join(found) == words
    statistics = ping.statistics()
    assert statistics.sent == len(found) + statistics.in_flight
    assert statistics.in_flight == bool(stalls)  # the fourth, which was sent in time


def test_a_deadline_that_makes_no_sense_is_refused() -> None:
    """It is a time like others."""
    with pytest.raises(ValueError, match="deadline 0 is not a number of seconds above 0, or"):
        techo.ping("8009", deadline=0)
