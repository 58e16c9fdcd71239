"""Datagrams: a loop for each socket, which waits for no peer and counts what became of each."""

from __future__ import annotations

import collections
import errno
import logging
import socket
from collections.abc import Mapping
from typing import Final, NoReturn

import attrs
import trio

from techo._faults.datagrams import FaultySender, LostOnPurposeError
from techo._faults.plan import Planner
from techo._server.datagram_sockets import NAMELESS, Address, DatagramSocket
from techo._server.guard import ANSWERING_PORTS, Buckets, Drop
from techo._server.limits import Limits
from techo.reply import Reply, raw

_log = logging.getLogger("techo.server")

_LARGEST: Final = 2**18
"""Bytes in a datagram that is received whole. UDP's largest has 65,527; a Unix one has some
208 KiB at most, unless its sender has changed its buffers."""

_TURN: Final = 0.0005
"""Seconds that a loop goes on before other tasks get their turn, as the pump does."""

_BATCH: Final = 32
"""Datagrams between two looks at the clock."""

_LAST: Final = 4096
"""Datagrams that are still answered when draining, of those that had arrived: more than the
kernel keeps unless its buffers were enlarged."""

_NO_ROOM: Final = {errno.EAGAIN, errno.ENOBUFS}


@attrs.frozen(kw_only=True)
class Datagrams:
    """A snapshot: ``received == echoed + sum(dropped.values())`` in every one."""

    received: int
    """Datagrams that arrived."""
    echoed: int
    """Of those, how many were answered, each with one datagram."""
    dropped: Mapping[Drop, int]
    """Of the others, how many were not and why; every reason is a key."""
    bytes_in: int
    """Bytes received."""
    bytes_out: int
    """Bytes sent, stamps included."""


@attrs.define(eq=False)
class DatagramService:
    """Answers datagrams on any number of sockets; one count for all of them."""

    reply: Reply
    limits: Limits
    planner: Planner | None = None
    """Plans what goes wrong, if anything is to."""
    draining: bool = False
    """Whether a loop that is cancelled still answers what had arrived."""
    _own: collections.Counter[object] = attrs.field(factory=collections.Counter)
    """Our own ports and paths: two of our sockets could keep each other busy, too."""
    _refused: frozenset[object] = frozenset()
    """Ports and paths that are not answered, ours among them."""
    _buckets: Buckets | None = attrs.field(init=False)
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(_LARGEST + 1)))
    _echoed: int = 0
    _dropped: dict[Drop, int] = attrs.field(factory=lambda: dict.fromkeys(Drop, 0))
    _bytes_in: int = 0
    _bytes_out: int = 0

    @_buckets.default
    def _make_buckets(self) -> Buckets | None:
        rate = self.limits.max_datagrams_per_second
        return None if rate is None else Buckets(rate)

    def statistics(self) -> Datagrams:
        """Take a snapshot of the counters."""
        return Datagrams(
            received=self._echoed + sum(self._dropped.values()),
            echoed=self._echoed,
            dropped=dict(self._dropped),
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
        )

    async def serve(self, sock: socket.socket) -> NoReturn:
        """Answer what arrives on a bound datagram socket, until cancelled.

        Leaves the socket open. Nothing that a peer or the reply function does ends this.
        """
        place = DatagramSocket.of(sock)
        self._own[place.own] += 1
        self._refuse()
        try:
            if self.planner is None:
                await self._loop(sock, place)
            await self._loop_with_faults(sock, place, FaultySender(self.planner, place.later))
        finally:
            self._own[place.own] -= 1
            self._refuse()

    async def _loop_with_faults(
        self, sock: socket.socket, place: DatagramSocket, faulty: FaultySender
    ) -> NoReturn:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(faulty.deliver)
                await self._loop(sock, attrs.evolve(place, send=faulty.send))
        finally:
            faulty.flush()
        raise AssertionError("the loop ended without having been cancelled")

    async def _loop(self, sock: socket.socket, place: DatagramSocket) -> NoReturn:
        try:
            while True:
                await trio.lowlevel.wait_readable(sock)
                end = trio.current_time() + _TURN
                while self._answer(place, _BATCH) and trio.current_time() < end:
                    pass
        finally:
            if self.draining:
                self._answer(place, _LAST)

    def _refuse(self) -> None:
        own = {place for place, sockets in self._own.items() if sockets}
        self._refused = NAMELESS | (own | ANSWERING_PORTS if self.limits.loop_guard else set())

    def _answer(  # noqa: C901  -- one piece without calls, as in the pump
        self, place: DatagramSocket, most: int
    ) -> bool:
        """Answer up to `most` datagrams that have arrived; whether there may be more."""
        receive, send, internet = place.receive, place.send, place.internet
        refused, buckets, buffer = self._refused, self._buckets, self._buffer
        reply = None if self.reply is raw else self.reply
        now = trio.current_time()
        last, data = -1, buffer
        echoed = bytes_in = bytes_out = 0
        try:
            for _ in range(most):
                try:
                    size, peer = receive(buffer)
                except BlockingIOError:
                    return False
                except OSError as error:  # about an earlier answer, see udp(7)
                    _log.debug("receiving a datagram: %s", error)
                    continue
                bytes_in += size
                if (peer[1] if internet else peer) in refused:
                    self._dropped[self._why_refused(peer[1] if internet else peer)] += 1
                    continue
                if buckets is not None and not buckets.admit(place.source(peer), now):
                    self._dropped[Drop.RATE] += 1
                    continue
                if size != last:
                    if size > _LARGEST:
                        self._dropped[Drop.TRUNCATED] += 1
                        continue
                    last, data = size, buffer[:size]
                answer = data if reply is None else self._compose(reply, bytes(data), peer)
                if answer is None:
                    continue
                try:
                    bytes_out += send(answer, peer)
                except OSError as error:
                    self._dropped[_why_not_sent(error)] += 1
                else:
                    echoed += 1
            return True
        finally:
            self._echoed += echoed
            self._bytes_in += bytes_in
            self._bytes_out += bytes_out

    def _why_refused(self, source: object) -> Drop:
        if source in NAMELESS:
            return Drop.UNBOUND
        return Drop.LOOP if self._own[source] else Drop.GUARDED

    def _compose(self, reply: Reply, data: bytes, peer: Address) -> bytes | None:
        """Ask the reply function; None if there is nothing to send, which is counted."""
        try:
            answer = reply(data)
            empty = not memoryview(answer).cast("B")  # raises if it can't be sent as it is
        except Exception:  # noqa: BLE001  -- anybody's function; it must not end the loop
            _log.exception("the reply to %s failed", peer)
            self._dropped[Drop.CRASHED] += 1
            return None
        if data and empty:
            self._dropped[Drop.SILENT] += 1
            return None
        return answer


def _why_not_sent(error: OSError) -> Drop:
    if isinstance(error, LostOnPurposeError):
        return Drop.FAULT
    if error.errno == errno.EMSGSIZE:
        return Drop.TOO_LARGE
    return Drop.BLOCKED if error.errno in _NO_ROOM else Drop.UNREACHABLE
