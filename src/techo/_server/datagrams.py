"""Datagrams: a loop for each socket, which waits for no peer and counts what became of each.

Some are not answered, so that no two servers answer each other for ever: anybody can put any
source address into a datagram. An answer to a server that answers everything starts a loop
between the two that ends only when a datagram is lost (CERT Advisory CA-1996-01; "Loopy
Hell(ow)", USENIX Security 2024).
"""

from __future__ import annotations

import collections
import enum
import errno
import functools
import itertools
import socket
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import attrs
import trio

from techo._buckets import Buckets
from techo._kernel.datagram_sockets import NAMELESS, DatagramSocket, Sender
from techo._kernel.drops import read_drops
from techo._log import detail, failure, is_detailed, name_of, rejected, shortage
from techo._loop_guard import SAMPLED, LoopGuard
from techo._reprs import brief
from techo._server.hook import RefusedError, ServiceHook
from techo._server.interceptor import InterceptedError, Interceptor
from techo._server.limits import Limits
from techo._server.sockets import endpoint_of
from techo._throttle import Throttle
from techo._transport.messages import LARGEST_PACKET
from techo.reply import Reply, raw

_TURN: Final = 0.0005
"""Seconds that a loop goes on before other tasks get their turn, as the pump does."""

_BATCH: Final = 32
"""Datagrams between two looks at the clock."""

_LAST: Final = 4096
"""Datagrams that are still answered when draining, of those that had arrived: more than the
kernel keeps unless its buffers were enlarged."""

_NO_ROOM: Final = {errno.EAGAIN, errno.ENOBUFS}

ANSWERING_PORTS: Final = frozenset({0, 7, 13, 17, 19, 37, 53, 69, 123})
"""Ports whose services answer what they don't understand: echo, daytime, quote of the day,
chargen, time, DNS, TFTP, NTP; and 0, which no service has."""


class DropReason(enum.StrEnum):
    """Why a datagram was not answered."""

    LOOP = "loop"
    """It came from one of our own ports or paths, over ip addresses, or is a reply of ours that
    has come back, as from another echo: answering might never end."""
    GUARDED = "guarded"
    """It came from a port whose service answers everything, such as another echo."""
    RATE = "rate"
    """Its source had sent `Limits.max_datagrams_per_second` already."""
    TRUNCATED = "truncated"
    """It had more than 256 KiB, which is what is received; the rest is not echoed."""
    UNBOUND = "unbound"
    """Its sender, a Unix socket, has no address to answer to."""
    CRASHED = "crashed"
    """The reply function raised."""
    SILENT = "silent"
    """The reply function answered something with nothing."""
    TOO_LARGE = "too_large"
    """The reply has more bytes than the transport carries (65,507 over IPv4)."""
    BLOCKED = "blocked"
    """There was no room for the reply: the peer reads nothing, the socket is full, or there is
    no memory."""
    DENIED = "denied"
    """The hook refused it, as `Admission` does by its lists of addresses."""
    FAULT = "fault"
    """A fault dropped it, as was asked for."""
    UNREACHABLE = "unreachable"
    """The system refused to send the reply there."""


_CAUSES: Final = {
    (reason, echoes): f"datagrams not {'answered' if echoes else 'passed on'} ({reason})"
    for reason in DropReason
    for echoes in (True, False)
}
"""What the log says of each. A flood of them has no time to compose it again and again."""


@attrs.frozen(kw_only=True, repr=False)
class DatagramStatistics:
    """A snapshot: ``received == echoed + sum(dropped.values())`` in every one."""

    received: int
    """Datagrams that arrived."""
    echoed: int
    """Of those, how many were answered, each with one datagram."""
    dropped: Mapping[DropReason, int]
    """Of the others, how many were not and why; every reason is a key."""
    bytes_in: int
    """Bytes received."""
    bytes_out: int
    """Bytes sent, stamps included."""
    dropped_here: int
    """Datagrams that the sockets had no room for, and nobody received; Linux says how many."""

    def __repr__(self) -> str:
        return brief(self)


@attrs.define(eq=False)
class DatagramService:
    """Answers datagrams on any number of sockets; one count for all of them."""

    reply: Reply
    limits: Limits
    throttle: Throttle
    """For the log lines about what is dropped."""
    interceptor: Interceptor | None = None
    hook: ServiceHook | None = None
    draining: bool = False
    """Whether a loop that is cancelled still answers what had arrived."""
    _own: collections.Counter[object] = attrs.field(factory=collections.Counter)
    """Our own ports and paths: two of our sockets could keep each other busy, too."""
    _refused: frozenset[object] = frozenset()
    """Ports and paths that are not answered, ours among them."""
    _buckets: Buckets | None = attrs.field(init=False)
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(LARGEST_PACKET + 1)))
    _echoed: int = 0
    _dropped: dict[DropReason, int] = attrs.field(factory=lambda: dict.fromkeys(DropReason, 0))
    _bytes_in: int = 0
    _bytes_out: int = 0
    _sockets: set[socket.socket] = attrs.field(factory=set)
    _plain: set[trio.CancelScope] = attrs.field(factory=set)
    """Of the loops that nothing intercepts."""
    _dropped_here: int = 0
    """Of sockets that are not served any more, less what others had before they were."""
    _numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1))
    """What the log tells datagrams apart by."""

    @_buckets.default
    def _make_buckets(self) -> Buckets | None:
        rate = self.limits.max_datagrams_per_second
        return None if rate is None else Buckets(rate)

    def statistics(self) -> DatagramStatistics:
        """Return a snapshot of the counters."""
        return DatagramStatistics(
            received=self._echoed + sum(self._dropped.values()),
            echoed=self._echoed,
            dropped=dict(self._dropped),
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            dropped_here=self._dropped_here + sum(map(read_drops, self._sockets)),
        )

    async def serve(self, sock: socket.socket) -> NoReturn:
        """Answer what arrives on a bound datagram socket, until cancelled.

        Leaves the socket open. Nothing that a peer or the reply function does ends this.
        """
        place = attrs.evolve(DatagramSocket.of(sock), endpoint=str(endpoint_of(sock)))
        self._own[place.own] += 1
        self._sockets.add(sock)
        self._dropped_here -= read_drops(sock)  # before it was ours
        self._refuse()
        try:
            while self.interceptor is None:
                with trio.CancelScope() as scope:
                    self._plain.add(scope)
                    await self._loop(sock, place)
            await self.interceptor.serve_datagrams(place, functools.partial(self._loop, sock))
        finally:
            self._own[place.own] -= 1
            self._sockets.discard(sock)
            self._dropped_here += read_drops(sock)
            self._refuse()

    def intercept(self, interceptor: Interceptor) -> None:
        """Have what is sent from now on intercepted, also where it was not."""
        self.interceptor = interceptor
        for each in self._plain:
            each.cancel(reason="intercepted")
        self._plain.clear()

    async def _loop(self, sock: socket.socket, place: DatagramSocket) -> NoReturn:
        guard = LoopGuard(self.reply) if self.limits.loop_guard and place.echoes else None
        try:
            while True:
                await trio.lowlevel.wait_readable(sock)
                end = trio.current_time() + _TURN
                while self._answer(place, guard, _BATCH) and trio.current_time() < end:
                    pass
        finally:
            if self.draining:
                self._answer(place, guard, _LAST)

    def _refuse(self) -> None:
        own = {place for place, sockets in self._own.items() if sockets}
        self._refused = NAMELESS | (own | ANSWERING_PORTS if self.limits.loop_guard else set())

    def _answer(  # noqa: C901, PLR0912, PLR0915  -- one piece, as in the pump
        self, place: DatagramSocket, guard: LoopGuard | None, most: int
    ) -> bool:
        """Answer up to `most` datagrams that have arrived; return whether there may be more."""
        receive, send, by_port = place.receive, place.send, place.by_port
        refused, buckets, buffer, hook = self._refused, self._buckets, self._buffer, self.hook
        reply = None if self.reply is raw else self.reply
        now = trio.current_time()
        last, data, verbose = -1, buffer, is_detailed()
        echoed = bytes_in = bytes_out = 0
        try:
            for number in range(most):
                try:
                    size, peer = receive(buffer)
                except BlockingIOError:
                    return False
                except OSError as error:  # about an earlier answer, see udp(7)
                    detail("receiving a datagram: %s", error, endpoint=place.endpoint)
                    continue
                except MemoryError as error:
                    shortage(error)
                    return False
                bytes_in += size
                if (peer[1] if by_port else peer) in refused:
                    self._drop(self._why_refused(peer[1] if by_port else peer), place, peer)
                    continue
                if size != last:
                    if size > LARGEST_PACKET:
                        self._drop(DropReason.TRUNCATED, place, peer)
                        continue
                    last, data = size, buffer[:size]
                source = peer
                if hook is not None:
                    if (identified := self._identify(hook, data, place, peer)) is None:
                        continue
                    data, source = identified
                    last = -1
                if buckets is not None and not buckets.admit(place.source(source), now):
                    self._drop(DropReason.RATE, place, peer)
                    continue
                if (
                    guard is not None
                    and (guard.alert or not number % SAMPLED)
                    and guard.is_loop(data, peer, now)
                ):
                    self._drop(DropReason.LOOP, place, peer)
                    continue
                answer: bytes | memoryview = data
                if reply is not None:
                    if (composed := self._compose(reply, bytes(data), place, peer)) is None:
                        continue
                    answer = composed
                    if guard is not None and guard.alert:
                        guard.note(peer, composed, now)
                try:
                    bytes_out += (sent := send(answer, peer))
                except (OSError, MemoryError) as error:
                    self._drop(_why_not_sent(error), place, peer)
                else:
                    echoed += 1
                    if verbose:
                        self._note_echoed(place, peer, size, sent)
            return True
        finally:
            self._echoed += echoed
            self._bytes_in += bytes_in
            self._bytes_out += bytes_out

    def _identify(
        self, hook: ServiceHook, data: memoryview, place: DatagramSocket, peer: Sender
    ) -> tuple[memoryview, Sender] | None:
        """Return payload and source, as the hook has them; None if it is not answered."""
        try:
            payload, source = hook.identify_datagram(data, peer)
        except RefusedError:
            self._drop(DropReason.DENIED, place, peer)
        except Exception as error:  # noqa: BLE001  -- user code may raise anything
            if not shortage(error) and self._drop(DropReason.CRASHED, place, peer):
                failure("the hook for a datagram failed", endpoint=place.endpoint)
        else:
            name = source[1] if place.by_port else source
            if name not in self._refused:
                return payload, source
            self._drop(self._why_refused(name), place, peer)
        return None

    def _why_refused(self, source: object) -> DropReason:
        if source in NAMELESS:
            return DropReason.UNBOUND
        return DropReason.LOOP if self._own[source] else DropReason.GUARDED

    def _drop(self, reason: DropReason, place: DatagramSocket, peer: Sender) -> bool:
        """Count a datagram that is not answered; return whether it is the first in a while."""
        self._dropped[reason] += 1
        kind = "dropped", _CAUSES[reason, place.echoes], place.endpoint
        throttle = None if reason is DropReason.FAULT else self.throttle
        return rejected(throttle, kind, peer, next(self._numbers))

    def _note_echoed(self, place: DatagramSocket, peer: Sender, size: int, sent: int) -> None:
        facts: dict[str, Any] = {"endpoint": place.endpoint, "peer": name_of(peer)}
        facts |= {"id": next(self._numbers), "bytes_in": size, "bytes_out": sent}
        text = "%s a datagram of %s: %d bytes in, %d out"
        done = "echoed" if place.echoes else "passed on"
        detail(text, done, facts["peer"], size, sent, event="echoed", **facts)

    def _compose(
        self, reply: Reply, data: bytes, place: DatagramSocket, peer: Sender
    ) -> bytes | None:
        """Return the reply; None if there is nothing to send, which is counted."""
        try:
            answer = reply(data)
            empty = not memoryview(answer).cast("B")  # raises if it can't be sent as it is
        except Exception as error:  # noqa: BLE001  -- user code may raise anything
            if shortage(error):
                self._drop(DropReason.BLOCKED, place, peer)
            elif self._drop(DropReason.CRASHED, place, peer):
                facts = {"endpoint": place.endpoint, "peer": name_of(peer)}
                failure("the reply to %s failed", facts["peer"], **facts)
            return None
        if data and empty:
            self._drop(DropReason.SILENT, place, peer)
            return None
        return answer


def _why_not_sent(error: OSError | MemoryError) -> DropReason:
    if isinstance(error, MemoryError):
        shortage(error)
        return DropReason.BLOCKED
    if isinstance(error, InterceptedError):
        return DropReason.FAULT
    if error.errno == errno.EMSGSIZE:
        return DropReason.TOO_LARGE
    return DropReason.BLOCKED if error.errno in _NO_ROOM else DropReason.UNREACHABLE
