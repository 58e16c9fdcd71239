"""Throttling: of many events of one kind, one log line at once and one for each minute."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any, Final, NoReturn

import attrs
import trio

PAUSE: Final = 60.0
"""Seconds between two lines about the same."""


@attrs.define(eq=False)
class _Events:
    """Those of one kind since the last line that summed them up."""

    latest: Any
    count: int = 0
    reported: int = 0
    """How many of them, one at most, had a line of their own."""


@attrs.define(eq=False)
class Throttle:
    """Counts events of any kind; the first after a pause is reported at once, the others later.

    `run` does that in time. Without it, as where only single streams are handled, the next
    event does. There must be few kinds: what a peer chooses belongs into `latest`.
    """

    report: Callable[[Any, Any, int, float], None]
    """Is called with a kind, its latest event, the count, and the seconds that this was in."""
    _begun: float = -math.inf
    _kinds: dict[Hashable, _Events] = attrs.field(factory=dict)
    _noted: trio.Event = attrs.field(factory=trio.Event)

    def note(self, kind: Hashable, latest: Any) -> bool:
        """Count an event; return whether it is to be reported at once."""
        now = trio.current_time()
        if now >= self._begun + PAUSE:
            self._sum_up(now)
        events = self._kinds.get(kind)
        if first := events is None:
            if not self._kinds:
                self._begun = now
            events = self._kinds[kind] = _Events(latest, reported=1)
            self._noted.set()
        events.latest = latest
        events.count += 1
        return first

    async def run(self) -> NoReturn:
        """Sum up in time, until cancelled; several of these may run at once."""
        while True:
            await self._noted.wait()
            await trio.sleep_until(self._begun + PAUSE)
            if (now := trio.current_time()) >= self._begun + PAUSE:
                self._sum_up(now)

    def flush(self) -> None:
        """Sum up what was not reported yet, before its time, because this is the end."""
        self._sum_up(trio.current_time())
        self._kinds.clear()
        self._begun = -math.inf

    def _sum_up(self, now: float) -> None:
        seconds, self._begun = now - self._begun, now
        for kind, events in tuple(self._kinds.items()):
            if events.count > events.reported:
                self.report(kind, events.latest, events.count, seconds)
                events.count = events.reported = 0
            else:
                del self._kinds[kind]
        if not self._kinds and self._noted.is_set():  # nobody waits for it any more
            self._noted = trio.Event()
