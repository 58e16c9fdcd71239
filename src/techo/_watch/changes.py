"""Changes: each waits until it is asked for, by everybody who wants to hear of them."""

from __future__ import annotations

import collections
from collections.abc import AsyncIterator
from typing import Final

import attrs
import trio

from techo._watch.events import Change

MOST_WAITING: Final = 10_000
"""Changes that wait to be asked for; beyond that the oldest are dropped."""


@attrs.define(eq=False)
class Changes:
    """What nobody has asked for yet, and to whom else it goes."""

    others: list[Changes] = attrs.field(factory=list)
    dropped: int = 0
    """How many were dropped, because nobody asked."""
    _waiting: collections.deque[Change] = attrs.field(factory=collections.deque)
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _over: bool = False

    def put(self, change: Change) -> None:
        """Take in a change, for all."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(change)
        self._changed.unpark_all()
        for each in self.others:
            each.put(change)

    def end(self) -> None:
        """Let everybody know that there are no more behind those that wait."""
        self._over = True
        self._changed.unpark_all()
        for each in self.others:
            each.end()

    async def next(self) -> Change:
        """Return the one that has waited for longest; cancelling this loses none.

        Raises:
            StopAsyncIteration: there are no more.
        """
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            if self._over:
                raise StopAsyncIteration
            await self._changed.park()
        return self._waiting.popleft()

    async def iterate(self) -> AsyncIterator[Change]:
        """Yield one after the other."""
        while True:
            try:
                change = await self.next()
            except StopAsyncIteration:
                return
            yield change
