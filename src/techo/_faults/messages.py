"""Messages that go wrong: changed, lost, doubled, held back; datagrams and SEQPACKET alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import attrs

from techo._faults.plan import Corruption, Plan
from techo._faults.values import (
    Corrupt,
    DropReply,
    DuplicateReply,
    Lengthen,
    ReorderReplies,
    Truncate,
)

F = TypeVar("F", DropReply, DuplicateReply, ReorderReplies)
T = TypeVar("T")

HELD_BACK: Final = 1.0
"""Seconds after which a reply that waits for later ones goes without them."""

_MOST_HELD_BACK: Final = 1000
"""Replies held back at once; what comes beyond that is sent at once."""


def lengthened(plan: Plan, data: bytes) -> bytes:
    """Add what `Lengthen` adds to a reply."""
    for fault, chance in plan.all_of(Lengthen):
        if plan.offset >= fault.offset:
            plan.note(fault, further=len(data))
            data += chance.randbytes(fault.by)
    return data


@attrs.define(eq=False)
class HeldBack(Generic[T]):
    """What waits until others have gone first."""

    _waiting: list[tuple[int, T]] = attrs.field(factory=list)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, thing: T, depth: int) -> bool:
        """Hold it back until `depth` others were sent; whether there was room for it."""
        if len(self._waiting) >= _MOST_HELD_BACK:
            return False
        self._waiting.append((depth, thing))
        return True

    def after_one_more(self) -> Iterator[T]:
        """Give that whose turn it is, now that another was sent."""
        waiting = [(depth - 1, thing) for depth, thing in self._waiting]
        self._waiting = [each for each in waiting if each[0]]
        yield from (thing for depth, thing in waiting if not depth)

    def all(self) -> Iterator[T]:
        """Give everything, because nothing else comes."""
        while self._waiting:
            yield self._waiting.pop(0)[1]


@attrs.frozen
class Fate:
    """What becomes of a message."""

    copies: tuple[bytes, ...]
    """What is sent: nothing, itself, or itself twice."""
    depth: int = 0
    """How many later ones go first."""


@attrs.define(eq=False)
class MessageFaults:
    """What happens to the messages of one connection."""

    plan: Plan
    _corruptions: list[Corruption] = attrs.field(init=False)

    @_corruptions.default
    def _make_corruptions(self) -> list[Corruption]:
        return [Corruption(*each) for each in self.plan.all_of(Corrupt)]

    def fate(self, reply: bytes) -> Fate:
        """Decide about one reply. The plan's offset is the caller's to move."""
        plan = self.plan
        if self._happens(DropReply):
            return Fate(())
        reply = lengthened(plan, reply)
        for corruption in self._corruptions:
            reply = corruption.apply(reply, plan)
        for truncate, _ in plan.all_of(Truncate):
            if plan.offset >= truncate.offset and len(reply) > truncate.after:
                plan.note(truncate, further=truncate.after)
                reply = reply[: truncate.after]
        copies = (reply, reply) if self._happens(DuplicateReply) else (reply,)
        reorder = self._happens(ReorderReplies)
        return Fate(copies, reorder.depth if reorder else 0)

    def _happens(self, kind: type[F]) -> F | None:
        """Say which fault of a kind happens to this message, and record it."""
        for fault, chance in self.plan.all_of(kind):
            # Drawn for every message, whether its offset has come or not.
            if chance.random() < fault.rate and self.plan.offset >= fault.offset:
                self.plan.note(fault)
                return fault
        return None
