"""The feed: what the page needs to know of the targets, whoever watches and remembers them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from techo._watch.columns import Past
from techo._watch.counts import Snapshot, Span
from techo._watch.events import Change


class Feed(Protocol):
    """What there is to show of the targets; times are Unix time.

    What is remembered may be out of reach, which is a `HistoryError`.
    """

    def snapshots(self) -> Iterable[Snapshot]:
        """Return all targets as they are now, in the order of the configuration.

        This is called once a second at most, and iterated over with pauses.
        """
        ...

    async def spans(
        self, target: str, since: float, until: float, seconds: int
    ) -> Sequence[Span]:
        """Return what is known of a target in a range of time, in order of time.

        `seconds` is 60, 3600 or 86400. Spans are that long, or longer where shorter ones are
        not kept any more. What began before `since` may be among them. What is not over is the
        minute that goes on, and what is kept of longer ones.
        An unknown target has none.
        """
        ...

    async def pasts(
        self, begins: Mapping[str, float], since: float, until: float, seconds: int
    ) -> Mapping[str, Past]:
        """Return the past of some targets: columns of the same as `spans`, and changes.

        Columns have so many seconds, a multiple of 60. The changes of each target are those
        from its moment in `begins` on.
        """
        ...

    async def changes(self, target: str | None, since: float, until: float) -> Sequence[Change]:
        """Return the changes of one target, or of all, in a range of time, in order of time."""
        ...

    async def oldest(self) -> float | None:
        """Return since when anything is known; None if nothing is."""
        ...

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Return what yields each change from then on; it must not keep up the watch."""
        ...
