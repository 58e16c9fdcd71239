"""What the page shows: the targets of a watch as they are, and what its history has of them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

import attrs

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
        minute = self.watch.minute(target)
        if minute is not None and since - minute.seconds < minute.start < until:
            found.append(minute)
        return found

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
