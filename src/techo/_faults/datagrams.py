"""Datagrams that go wrong: a sender that loses, doubles, delays and reorders as planned."""

from __future__ import annotations

import contextlib
import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NoReturn, TypeAlias

import attrs
import trio

from techo._faults.messages import HELD_BACK, HeldBack, MessageFaults
from techo._faults.plan import Planner
from techo._faults.values import Delay

Send: TypeAlias = Callable[[bytes], int]
"""Answers one certain datagram, whenever that is."""

_MOST_DELAYED: Final = 10_000
"""Replies that wait for their time at once; what comes beyond that is lost."""


class LostOnPurposeError(OSError):
    """A fault has kept a reply from being sent."""


@attrs.define(eq=False)
class FaultySender:
    """Sends what is to be sent in place of a reply, at once or when its time has come."""

    planner: Planner
    later: Callable[[Any], Send]
    """Gives what answers the datagram received last, from a peer, at any later time."""
    _held_back: HeldBack[Callable[[], int]] = attrs.field(factory=HeldBack)
    _due: list[tuple[float, int, Callable[[], object]]] = attrs.field(factory=list)
    """A heap: when, in which order, and what to do."""
    _ordinal: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def send(self, data: memoryview | bytes, peer: Any) -> int:
        """Answer the datagram received last; give the bytes sent now or later.

        Raises:
            LostOnPurposeError: nothing will be sent.
            OSError: the system would not send it.
        """
        plan = self.planner.next()
        fate = MessageFaults(plan).fate(bytes(data))
        if not fate.copies or len(self._due) >= _MOST_DELAYED:
            raise LostOnPurposeError("by a fault")
        answer, size = self.later(peer), sum(map(len, fate.copies))

        def send() -> int:
            return sum(answer(copy) for copy in fate.copies)

        if fate.depth and self._held_back.add(send, fate.depth):
            self._after(HELD_BACK, self._release)
            return size
        seconds = 0.0
        for delay, chance in plan.all_of(Delay):
            plan.note(delay)
            seconds += max(0.0, delay.seconds + chance.uniform(-delay.jitter, delay.jitter))
        if seconds:
            self._after(seconds, send)
            return size
        sent = send()
        self._do(self._held_back.after_one_more())
        return sent

    def _after(self, seconds: float, do: Callable[[], object]) -> None:
        self._ordinal += 1
        heapq.heappush(self._due, (trio.current_time() + seconds, self._ordinal, do))
        self._changed.set()

    def _release(self) -> None:
        """Send what nothing came after."""
        self._do(self._held_back.all())

    @staticmethod
    def _do(deeds: Iterable[Callable[[], object]]) -> None:
        for do in deeds:
            with contextlib.suppress(OSError):  # counted as sent, and nobody is there now
                do()

    async def deliver(self) -> NoReturn:
        """Send what waits, each in its time, until cancelled."""
        while True:
            self._changed = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._changed.wait()
            self._do(self._pop(until=trio.current_time()))

    def flush(self) -> None:
        """Send all that waits: it was counted, and nothing comes after it."""
        self._do(self._pop(until=math.inf))

    def _pop(self, until: float) -> Iterator[Callable[[], object]]:
        while self._due and self._due[0][0] <= until:
            yield heapq.heappop(self._due)[2]
