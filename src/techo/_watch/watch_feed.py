"""What the page shows: the targets of a watch as they are, and what its history has of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import attrs

from techo._watch.columns import Past
from techo._watch.counts import Snapshot, Span
from techo._watch.events import Change
from techo._watch.history import History
from techo._watch.watch import Watch


@attrs.frozen
class WatchFeed:
    """The feed of a page; see `Feed`."""

    watch: Watch
    history: History

    def snapshots(self) -> Iterable[Snapshot]:
        """Yield each target as it is when it is asked for."""
        return self.watch.snapshots()

    async def spans(
        self, target: str, since: float, until: float, seconds: int
    ) -> Sequence[Span]:
        """Return what the history has of a target, and the minute that goes on."""
        found = await self.history.spans(target, since, until, seconds)
        minute = self._minute(target, since, until)
        return found if minute is None else [*found, minute]

    async def pasts(
        self, begins: Mapping[str, float], since: float, until: float, seconds: int
    ) -> Mapping[str, Past]:
        """Return what the history has of some targets, and the minute that goes on."""
        found = await self.history.pasts(begins, since, until, seconds)
        for target, past in found.items():
            minute = self._minute(target, since, until)
            if minute is not None:
                past.columns.add(minute)
        return found

    def _minute(self, target: str, since: float, until: float) -> Span | None:
        """Return the minute that goes on, if it has some of a range of time."""
        minute = self.watch.minute(target)
        if minute is not None and since - minute.seconds < minute.start < until:
            return minute
        return None

    async def changes(self, target: str | None, since: float, until: float) -> Sequence[Change]:
        """Return the changes of one target, or of all."""
        return await self.history.changes(target, since, until)

    async def oldest(self) -> float:
        """Return since when anything is known."""
        extent = await self.history.extent()
        return time.time() if extent is None else extent

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Return what yields each change from then on."""
        return self.watch.subscribe()
