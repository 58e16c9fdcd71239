"""Plans: which faults happen to one connection: its number, the time and the seed decide."""

from __future__ import annotations

import collections
import math
import random
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import attrs
import trio

from techo._faults.values import DATAGRAMS, Corrupt, Fault, FaultEvent
from techo._printable import printable

F = TypeVar("F", bound=Fault)

_REMEMBERED: Final = 100_000
"""Events kept, so that a server that runs for long does not grow."""


_FAR: Final = 2.0**62
"""Bytes that no connection sends."""


def check_applicable(faults: Iterable[Fault], transport: str, where: object) -> None:
    """Refuse faults that cannot happen on a transport.

    Raises:
        ValueError: one cannot; the text names it and where it can.
    """
    for fault in faults:
        if transport not in fault.transports:
            able = ", ".join(sorted(fault.transports))
            raise ValueError(
                f"fault {printable(str(fault))} cannot happen on {where}, only on {able}"
            )
        if fault.offset and transport in DATAGRAMS:
            raise ValueError(
                f"fault {printable(str(fault))} has an offset, which datagrams on {where} "
                "don't know"
            )


@attrs.define(eq=False)
class _Turns:
    """Counts the connections that a fault can happen to, and finds those that it does."""

    fault: Fault
    _came: int = 0
    """Connections that came in its time."""

    def comes(self, time: float) -> bool:
        """Count a connection that comes at `time`; return whether it is one of those."""
        fault = self.fault
        if fault.between is not None:
            begin, end = fault.between
            if not begin <= time < end:
                return False
        self._came += 1
        turn, rest = divmod(self._came - fault.skip, fault.every)
        return turn >= 1 and not rest and (fault.first is None or turn <= fault.first)


@attrs.define(eq=False)
class Planner:
    """Plans the faults of each connection of a server.

    Everything is decided when a connection comes, by its number, the time and the seed.
    """

    faults: Sequence[Fault]
    seed: int
    events: collections.deque[FaultEvent] = attrs.field(
        factory=lambda: collections.deque(maxlen=_REMEMBERED)
    )
    """What was put into effect, the latest last."""
    _turns: list[_Turns] = attrs.field(init=False)
    _begun: float | None = None
    """When what it plans for began, in the run's clock."""
    _connections: int = 0

    @_turns.default
    def _make_turns(self) -> list[_Turns]:
        return [_Turns(fault) for fault in self.faults]

    def begin(self) -> None:
        """Let the time begin that `Fault.between` counts, unless it has; `next` does, too."""
        if self._begun is None:
            self._begun = trio.current_time()

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replace the faults of all connections that come from now on, counted anew.

        Their numbers, the seed and the time go on.
        """
        self.faults = faults
        self._turns = self._make_turns()

    def next(self) -> Plan:
        """Plan the next connection, or the next datagram."""
        self.begin()
        self._connections += 1
        number, now = self._connections, trio.current_time()
        return Plan(number, self._choose(number, now), self.events, now)

    def again(self, number: int, *, begun: float, sent: int) -> Plan:
        """Plan a connection that is open anew, as if it came now.

        It has `begun` then, and was `sent` so many bytes; its offset counts from now on.
        """
        self.begin()
        return Plan(number, self._choose(number, trio.current_time()), self.events, begun, sent)

    def _choose(self, number: int, now: float) -> list[tuple[Fault, random.Random]]:
        assert self._begun is not None  # noqa: S101  -- `next` has seen to it
        chosen = []
        for index, turns in enumerate(self._turns):
            if not turns.comes(now - self._begun):
                continue
            # Each fault has a generator of its own, so that none depends on what others draw.
            chance = random.Random(f"{self.seed} {number} {index}")  # noqa: S311  -- no secret
            if chance.random() < turns.fault.probability:
                chosen.append((turns.fault, chance))
        return chosen


@attrs.define(eq=False)
class Plan:
    """The faults of one connection, each with its generator of chances."""

    number: int
    chosen: list[tuple[Fault, random.Random]]
    _events: collections.deque[FaultEvent]
    begun: float
    """When the connection was accepted, in the run's clock."""
    sent_before: int = 0
    """Bytes of replies that were sent before this was planned."""
    offset: int = 0
    """Bytes of replies that were sent since."""

    def all_of(self, kind: type[F]) -> list[tuple[F, random.Random]]:
        """Return the faults of a kind with their generators of chances."""
        return [(fault, chance) for fault, chance in self.chosen if isinstance(fault, kind)]

    def first(self, kind: type[F]) -> F | None:
        """Return the first fault of a kind, if there is one."""
        return next((fault for fault, _ in self.all_of(kind)), None)

    def note(self, fault: Fault, *, further: int = 0) -> None:
        """Record that a fault is put into effect now, `further` bytes on."""
        # To the ns, below which the clock's own value decides about the last digits.
        time = round(trio.current_time() - self.begun, 9)
        place = self.sent_before + self.offset + further
        self._events.append(FaultEvent(self.number, place, time, fault))


@attrs.define(eq=False)
class Corruption:
    """Replaces bytes of a stream at places that depend on nothing but the chances."""

    fault: Corrupt
    chance: random.Random
    _next: float = attrs.field(init=False)

    @_next.default
    def _first_place(self) -> float:
        return self.fault.offset + self._gap()

    def _gap(self) -> float:
        """Draw how many bytes stay right before the next wrong one (geometrically)."""
        if self.fault.rate in (0, 1):
            return 0.0 if self.fault.rate else math.inf
        # A rate may be so small that the quotient is no number of bytes any more.
        gap = math.log1p(-self.chance.random()) / math.log1p(-self.fault.rate)
        return math.inf if gap > _FAR else int(gap)

    def apply(self, data: bytes, plan: Plan) -> bytes:
        """Corrupt `data`, which is sent next."""
        first = plan.offset
        changed = bytearray(data)
        while self._next < first + len(data):
            place = int(self._next) - first
            changed[place] ^= self.chance.randrange(1, 256)
            plan.note(self.fault, further=place)
            self._next += 1 + self._gap()
        return bytes(changed)
