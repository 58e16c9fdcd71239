"""Messages that go wrong: changed, lost, doubled, held back; datagrams and packets alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

import attrs
import trio

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

MOST_WAITING: Final = 2**24
"""Bytes of what waits at once; what comes beyond that does not."""

RECORD: Final = 256
"""Bytes that each of these counts in addition, so that empty ones are bounded, too."""


def lengthened(plan: Plan, data: bytes) -> bytes:
    """Add what `Lengthen` adds to a reply."""
    for fault, chance in plan.all_of(Lengthen):
        if plan.offset >= fault.offset:
            plan.note(fault, further=len(data))
            data += chance.randbytes(fault.by)
    return data


@attrs.frozen
class _Held(Generic[T]):
    thing: T
    size: int
    depth: int
    deadline: float


@attrs.define(eq=False)
class HeldBack(Generic[T]):
    """What waits until others have gone first, or its time is over; the oldest first."""

    _waiting: list[_Held[T]] = attrs.field(factory=list)
    _bytes: int = 0

    @property
    def deadline(self) -> float:
        """When the oldest has waited long enough, in the run's clock; infinity without any."""
        return self._waiting[0].deadline if self._waiting else math.inf

    def add(self, thing: T, depth: int, size: int) -> bool:
        """Hold it back until `depth` others were sent; return whether there was room."""
        size += RECORD
        if self._bytes + size > MOST_WAITING:
            return False
        self._bytes += size
        deadline = trio.current_time() + HELD_BACK
        self._waiting.append(_Held(thing, size, depth, deadline))
        return True

    def after_one_more(self) -> Iterator[T]:
        """Return what goes next, now that another was sent."""
        self._waiting = [attrs.evolve(each, depth=each.depth - 1) for each in self._waiting]
        return self._take(lambda held: held.depth == 0)

    def expired(self, now: float) -> Iterator[T]:
        """Return what has waited long enough."""
        return self._take(lambda held: held.deadline <= now)

    def all(self) -> Iterator[T]:
        """Return everything, because nothing else comes."""
        return self._take(lambda _: True)

    def _take(self, wanted: Callable[[_Held[T]], bool]) -> Iterator[T]:
        taken = [each for each in self._waiting if wanted(each)]
        self._waiting = [each for each in self._waiting if not wanted(each)]
        self._bytes -= sum(each.size for each in taken)
        return iter([each.thing for each in taken])


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
        for truncate, _ in plan.all_of(Truncate):
            if plan.offset >= truncate.offset and len(reply) > truncate.after:
                plan.note(truncate, further=truncate.after)
                reply = reply[: truncate.after]
        for corruption in self._corruptions:
            reply = corruption.apply(reply, plan)
        copies = (reply, reply) if self._happens(DuplicateReply) else (reply,)
        reorder = self._happens(ReorderReplies)
        return Fate(copies, reorder.depth if reorder else 0)

    def _happens(self, kind: type[F]) -> F | None:
        """Return the fault of a kind that happens to this message, if any, and record it."""
        for fault, chance in self.plan.all_of(kind):
            # Drawn for every message, whether its offset has come or not.
            if chance.random() < fault.rate and self.plan.offset >= fault.offset:
                self.plan.note(fault)
                return fault
        return None
