"""Datagrams: a loop for each socket, which waits for no peer and counts what became of each."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Mapping
from typing import Final, NoReturn

import attrs
import trio

from techo._server.datagram_sockets import Address, Send, UdpSocket, Way, datagram_socket
from techo._server.guard import ANSWERING_PORTS, Buckets, Drop
from techo._server.limits import Limits
from techo.reply import Reply

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
    draining: bool = False
    """Whether a loop that is cancelled still answers what had arrived."""
    _own: set[object] = attrs.field(factory=set)
    """Our own ports and paths: two of our sockets could keep each other busy, too."""
    _guarded: frozenset[object] = attrs.field(init=False)
    _buckets: Buckets | None = attrs.field(init=False)
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(_LARGEST + 1)))
    _echoed: int = 0
    _dropped: dict[Drop, int] = attrs.field(factory=lambda: dict.fromkeys(Drop, 0))
    _bytes_in: int = 0
    _bytes_out: int = 0

    @_guarded.default
    def _choose_guarded(self) -> frozenset[object]:
        return ANSWERING_PORTS if self.limits.loop_guard else frozenset()

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
        place = datagram_socket(sock)
        own = place.own_address()
        if self.limits.loop_guard:
            self._own.add(own)
        try:
            while True:
                await trio.lowlevel.wait_readable(sock)
                end = trio.current_time() + _TURN
                while self._answer(place, _BATCH) and trio.current_time() < end:
                    pass
        finally:
            if self.draining:
                self._answer(place, _LAST)
            self._own.discard(own)

    def _answer(self, place: UdpSocket, most: int) -> bool:
        """Answer up to `most` datagrams that have arrived; whether there may be more."""
        now = trio.current_time()
        receive, send, buffer = place.receive, place.send, self._buffer
        for _ in range(most):
            try:
                size, peer, way = receive(buffer)
            except BlockingIOError:
                return False
            except OSError as error:  # about an earlier answer, see udp(7)
                _log.debug("receiving a datagram: %s", error)
                continue
            self._bytes_in += size
            drop = self._unwanted(place, peer, size, now)
            if drop is None:
                drop = self._echo(bytes(buffer[:size]), peer, way, send)
            if drop is None:
                self._echoed += 1
            else:
                self._dropped[drop] += 1
        return True

    def _echo(self, data: bytes, peer: Address, way: Way, send: Send) -> Drop | None:
        """Answer one datagram, or say why it is not answered."""
        try:
            answer = memoryview(self.reply(data))
        except Exception:  # noqa: BLE001  -- anybody's function; it must not end the loop
            _log.exception("the reply to %s failed", peer)
            return Drop.CRASHED
        if data and not answer:
            return Drop.SILENT
        try:
            self._bytes_out += send(answer, peer, way)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Drop.TOO_LARGE
            return Drop.BLOCKED if error.errno in _NO_ROOM else Drop.UNREACHABLE
        return None

    def _unwanted(self, place: UdpSocket, peer: Address, size: int, now: float) -> Drop | None:
        """Say why a datagram is not to be answered, if it is not."""
        if (drop := place.unwanted(peer, self._own, self._guarded)) is not None:
            return drop
        if size > _LARGEST:
            return Drop.TRUNCATED
        if self._buckets is not None and not self._buckets.admit(place.source(peer), now):
            return Drop.RATE
        return None
