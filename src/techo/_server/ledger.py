"""The ledger: who is connected, who may, and what became of all the others."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import attrs
import trio

from techo._server.connection import Connection, Outcome
from techo._server.datagrams import Datagrams


@attrs.frozen(kw_only=True)
class Statistics:
    """A snapshot: ``accepted == active + sum(outcomes.values())`` in every one."""

    accepted: int
    """Connections handed to the service since it was made."""
    active: int
    """Of those, how many are not over."""
    outcomes: Mapping[Outcome, int]
    """Of the others, how many ended in which way; every outcome is a key."""
    chunks: int
    """Chunks received, by the ended and the active together, as below."""
    bytes_in: int
    """Bytes received."""
    bytes_out: int
    """Bytes sent, stamps included."""
    datagrams: Datagrams
    """The same for what came without a connection; nothing of it is in the figures above."""


@attrs.define(eq=False)
class Ledger:
    """Admits connections, and enters each of them once when it opens and once when it ends."""

    max_connections: int
    max_per_host: int | None
    _accepted: int = 0
    _active: set[Connection] = attrs.field(factory=set)
    _per_host: collections.Counter[str] = attrs.field(factory=collections.Counter)
    _outcomes: collections.Counter[Outcome] = attrs.field(factory=collections.Counter)
    _chunks: int = 0
    _bytes_in: int = 0
    _bytes_out: int = 0
    _waiting_for_empty: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._active))

    def open(self, connection: Connection) -> bool:
        """Enter a new connection if the limits admit it, or else at once as refused."""
        self._accepted += 1
        host = self._counted_host(connection)
        if len(self._active) >= self.max_connections or (
            host is not None and self._per_host[host] == self.max_per_host
        ):
            self._outcomes[Outcome.REFUSED] += 1
            return False
        self._active.add(connection)
        if host is not None:
            self._per_host[host] += 1
        return True

    def _counted_host(self, connection: Connection) -> str | None:
        return None if self.max_per_host is None else connection.peer.host

    def close(self, connection: Connection, outcome: Outcome) -> None:
        """Enter how an admitted connection ended."""
        self._active.remove(connection)
        self._outcomes[outcome] += 1
        self._chunks += connection.chunks
        self._bytes_in += connection.bytes_in
        self._bytes_out += connection.bytes_out
        host = self._counted_host(connection)
        if host is not None:
            self._per_host[host] -= 1
            if not self._per_host[host]:
                del self._per_host[host]  # or every address ever seen would stay
        if not self._active:
            self._waiting_for_empty.unpark_all()

    async def wait_empty(self) -> None:
        """Wait until no connection is active; always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while self._active:
            await self._waiting_for_empty.park()

    def statistics(self, datagrams: Datagrams) -> Statistics:
        """Take a snapshot of everything up to now, with that of the datagrams."""
        return Statistics(
            accepted=self._accepted,
            active=len(self._active),
            outcomes={outcome: self._outcomes[outcome] for outcome in Outcome},
            chunks=self._chunks + sum(each.chunks for each in self._active),
            bytes_in=self._bytes_in + sum(each.bytes_in for each in self._active),
            bytes_out=self._bytes_out + sum(each.bytes_out for each in self._active),
            datagrams=datagrams,
        )
