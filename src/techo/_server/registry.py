"""The registry: which connections are active, which are admitted, and how the others ended."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Mapping

import attrs
import trio

from techo._addresses import network_of
from techo._log import summed_up
from techo._reprs import brief
from techo._server.connection import Connection, Outcome
from techo._server.datagrams import DatagramStatistics
from techo._throttle import Throttle


@attrs.frozen(kw_only=True, repr=False)
class Statistics:
    """A snapshot: ``accepted == active + sum(outcomes.values())`` in every one."""

    accepted: int
    """Connections handed to the service since it was created."""
    active: int
    """Of those, how many are not over."""
    parked: int
    """Of the active, how many wait for a place (`Limits.when_full`)."""
    outcomes: Mapping[Outcome, int]
    """Of the others, how many ended in which way; every outcome is a key."""
    chunks: int
    """Chunks received, by the ended and the active together, as below."""
    bytes_in: int
    """Bytes received."""
    bytes_out: int
    """Bytes sent, stamps included."""
    datagrams: DatagramStatistics
    """The same for what came without a connection; the figures above do not include it."""

    def __repr__(self) -> str:
        return brief(self)


@attrs.define(eq=False)
class Registry:
    """Admits connections, and records each of them once when it opens and once when it ends.

    Admission has two steps: `open` goes by totals as soon as a connection is accepted,
    `admit` by address once it is known who is at the other end.
    """

    max_connections: int
    max_parked: int
    """Connections that may wait for a place, 0 if none."""
    max_per_host: int | None
    max_handshakes: int
    throttle: Throttle = attrs.field(factory=lambda: Throttle(summed_up))
    """For the log lines about who was not admitted."""
    _accepted: int = 0
    _served: int = 0
    """Of the active, how many have a place."""
    _parked: dict[Connection, trio.Event] = attrs.field(factory=dict)
    """The others, the oldest first, each with what is set when it is given a place."""
    _active: set[Connection] = attrs.field(factory=set)
    _handshakes: dict[Connection, None] = attrs.field(factory=dict)
    """Those in progress, the oldest first."""
    _per_host: collections.Counter[str] = attrs.field(factory=collections.Counter)
    _outcomes: collections.Counter[Outcome] = attrs.field(factory=collections.Counter)
    _chunks: int = 0
    _bytes_in: int = 0
    _bytes_out: int = 0
    _waiting: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _fewer: int = 1
    """What waits is woken when fewer than this are active."""

    def __len__(self) -> int:
        """Return how many connections are active."""
        return len(self._active)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._active))

    def open(self, connection: Connection) -> bool:
        """Record a new connection, and return whether there may be one more.

        One that may not be is recorded as refused, and is over. If `is_parked`, it may be when
        there is a place.
        """
        self._accepted += 1
        connection.id = self._accepted
        if self._served < self.max_connections:  # so that nobody is parked
            self._served += 1
        elif len(self._parked) < self.max_parked:
            self._parked[connection] = trio.Event()
        else:
            connection.outcome = Outcome.REFUSED
            connection.reason = f"max-connections {self.max_connections} reached"
            self._outcomes[Outcome.REFUSED] += 1
            return False
        self._active.add(connection)
        return True

    def is_parked(self, connection: Connection) -> bool:
        """Return whether an open connection has no place yet."""
        return connection in self._parked

    async def wait_for_place(self, connection: Connection) -> None:
        """Wait until a parked connection has a place."""
        await self._parked[connection].wait()

    def admit(self, connection: Connection) -> bool:
        """Return whether the address of an open connection may have one more.

        From now on it counts; one that is not admitted is the caller's to `close`.
        """
        host = connection.peer.host
        if self.max_per_host is None or host is None:
            return True
        host = network_of(host)
        if self._per_host[host] == self.max_per_host:
            connection.reason = f"max-per-host {self.max_per_host} reached"
            return False
        self._per_host[host] += 1
        connection.counted_host = host
        return True

    def close(self, connection: Connection) -> None:
        """Record how an open connection ended; its place is for the oldest that is parked."""
        self._active.remove(connection)
        if self._parked.pop(connection, None) is None:
            if self._parked:
                self._parked.pop(next(iter(self._parked))).set()
            else:
                self._served -= 1
        self._outcomes[connection.outcome] += 1
        self._chunks += connection.chunks
        self._bytes_in += connection.bytes_in
        self._bytes_out += connection.bytes_out
        host = connection.counted_host
        if host is not None:
            self._per_host[host] -= 1
            if not self._per_host[host]:
                del self._per_host[host]  # or every address ever seen would stay
        if self._waiting and len(self._active) < self._fewer:
            self._waiting.unpark_all()

    @contextlib.contextmanager
    def handshaking(self, connection: Connection) -> Iterator[None]:
        """Count a connection among the handshakes in progress for a block.

        Where there are too many then, the oldest goes: it has had the most time.
        """
        self._handshakes[connection] = None
        if len(self._handshakes) > self.max_handshakes:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.reason = f"max-handshakes {self.max_handshakes} reached"
            oldest.abort(Outcome.REFUSED)
        try:
            yield
        finally:
            self._handshakes.pop(connection, None)

    async def wait_below(self, count: int) -> None:
        """Wait until fewer than `count` connections are active; always a checkpoint.

        Only one task may wait.
        """
        await trio.lowlevel.checkpoint()
        self._fewer = count
        while len(self._active) >= count:
            await self._waiting.park()

    def statistics(self, datagrams: DatagramStatistics) -> Statistics:
        """Return a snapshot of everything up to now, with that of the datagrams."""
        chunks, bytes_in, bytes_out = self._chunks, self._bytes_in, self._bytes_out
        for each in self._active:
            chunks += each.chunks
            bytes_in += each.bytes_in
            bytes_out += each.bytes_out
        return Statistics(
            accepted=self._accepted,
            active=len(self._active),
            parked=len(self._parked),
            outcomes={outcome: self._outcomes[outcome] for outcome in Outcome},
            chunks=chunks,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            datagrams=datagrams,
        )
