"""What the page of a running watch shows of its past, in virtual time."""

from __future__ import annotations

import json
import math
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock

import techo
from techo import testing
from techo._watch.columns import Columns, Past
from techo._watch.counts import Span
from techo._watch.history import History
from techo._watch.watch import watch
from techo._watch.watch_feed import WatchFeed

AHEAD = 1_000_000_020.0
"""Unix time when the run's clock is 0: 20 s into a minute."""


@attrs.define
class Kept:
    """Stands for a history of minutes."""

    found: list[Span] = attrs.field(factory=list)

    def put_span(self, span: Span) -> None:
        """Keep a minute."""
        self.found.append(span)

    def put_change(self, change: techo.Change) -> None:
        """Keep none."""

    async def spans(self, *_: Any) -> list[Span]:
        """Return all."""
        await trio.lowlevel.checkpoint()
        return [*self.found]

    async def pasts(self, begins: Any, _since: Any, _until: Any, seconds: int) -> Any:
        """Return all, for whichever target."""
        found = {name: Past(Columns(seconds), []) for name in begins}
        for past in found.values():
            for span in await self.spans():
                past.columns.add(span)
        return found


@pytest.mark.parametrize("seconds", [60, 3600])
async def test_the_minute_that_goes_on_is_shown_from_the_first_probe(
    seconds: int, autojump_clock: MockClock
) -> None:
    """Together with what is written down, each probe is there once, and none is missing."""
    kept, limits = Kept(), techo.Limits(idle_timeout=math.inf)
    async with testing.open_memory_server(reply=techo.raw, limits=limits) as server:
        target = techo.WatchTarget(endpoint=server.connect, name="a")
        watching = watch([target], recorder=kept, wall=lambda: AHEAD + trio.current_time())
        async with watching:
            feed = WatchFeed(watching, cast("History", kept))
            for pause in (5, 50, 100):
                await trio.sleep(pause)
                (now,) = feed.snapshots()
                found = await feed.spans("a", 0, math.inf, seconds)
                received = sum(each.counts.received for each in found)
                assert 0 < received == now.total.received
                past = (await feed.pasts({"a": 0}, 0, math.inf, seconds))["a"]
                columns = json.loads(past.columns.to_text())
                assert sum(each["received"] for each in columns) == received
                assert len({each.start for each in found}) == len(found) == len(kept.found) + 1
            start = found[-1].start
            assert await feed.spans("a", 0, start, seconds) == kept.found
            assert await feed.spans("a", start + 60, math.inf, seconds) == kept.found
            assert await feed.spans("b", 0, math.inf, seconds) == kept.found
