"""Datagrams that go wrong: a sender that loses, doubles, delays and reorders as planned."""

from __future__ import annotations

import contextlib
import functools
import heapq
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

import attrs
import trio

from techo._faults.messages import MOST_WAITING, RECORD, Fate, HeldBack, MessageFaults
from techo._faults.plan import Planner
from techo._faults.values import Delay

Send: TypeAlias = Callable[[bytes], int]
"""Answers one certain datagram, at any time; returns the bytes sent."""


class LostOnPurposeError(OSError):
    """A fault has kept a reply from being sent."""


@attrs.frozen
class _Reply:
    peer: Any
    answer: Send
    fate: Fate
    size: int

    def send(self) -> int:
        return sum(self.answer(copy) for copy in self.fate.copies)


@attrs.define(eq=False)
class FaultySender:
    """Sends what is to be sent in place of a reply, at once or when its time has come."""

    planner: Planner
    later: Callable[[Any], Send]
    """Returns what answers the datagram received last, from a peer, at any later time."""
    _held_back: HeldBack[_Reply] = attrs.field(factory=HeldBack)
    _due: list[tuple[float, int, _Reply]] = attrs.field(factory=list)
    """A heap: when, in which order, and what to send."""
    _delayed: int = 0
    """Bytes in it."""
    _latest: dict[Any, float] = attrs.field(factory=dict)
    """When the last of each peer that has any in it is due, so that they stay in order."""
    _ordinal: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def send(self, data: memoryview | bytes, peer: Any) -> int:
        """Answer the datagram received last; return the bytes sent now or later.

        Raises:
            LostOnPurposeError: nothing will be sent.
            OSError: the system would not send it.
        """
        plan = self.planner.next()
        fate = MessageFaults(plan).fate(bytes(data))
        size = sum(map(len, fate.copies))
        due = now = trio.current_time()
        for delay, chance in plan.all_of(Delay):
            plan.note(delay)
            due += max(0.0, delay.seconds + chance.uniform(-delay.jitter, delay.jitter))
        if plan.all_of(Delay):
            due = max(due, self._latest.get(peer, due))
        if not fate.copies or (due > now and self._delayed + size > MOST_WAITING):
            raise LostOnPurposeError("by a fault")
        reply = _Reply(peer, self.later(peer), fate, size)
        if due <= now:
            return self._send(reply)
        self._delayed += size + RECORD
        self._latest[peer] = due
        self._ordinal += 1
        heapq.heappush(self._due, (due, self._ordinal, reply))
        self._changed.set()
        return size

    def _send(self, reply: _Reply) -> int:
        """Send a reply whose time has come, unless others are to go first."""
        if reply.fate.depth and self._held_back.add(reply, reply.fate.depth, reply.size):
            self._changed.set()
            return reply.size
        sent = reply.send()
        for held in self._held_back.after_one_more():
            _send_late(held.send)
        return sent

    async def deliver(self) -> NoReturn:
        """Send what waits, each in its time, until cancelled."""
        while True:
            self._changed = trio.Event()
            due = self._due[0][0] if self._due else math.inf
            with trio.move_on_at(min(due, self._held_back.deadline)):
                await self._changed.wait()
            self._send_due(trio.current_time())
            for held in self._held_back.expired(trio.current_time()):
                _send_late(held.send)

    def flush(self) -> None:
        """Send all that waits: it was counted, and nothing comes after it."""
        self._send_due(math.inf)
        for held in self._held_back.all():
            _send_late(held.send)

    def _send_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            due, _, reply = heapq.heappop(self._due)
            self._delayed -= reply.size + RECORD
            if self._latest.get(reply.peer) == due:
                del self._latest[reply.peer]
            _send_late(functools.partial(self._send, reply))


def _send_late(send: Callable[[], int]) -> None:
    """Send what was counted as sent already; if that fails now, it stays counted."""
    with contextlib.suppress(OSError):
        send()
