"""Datagrams through a proxy: each source has a socket of its own towards the target.

The server's loop receives what sources send and passes it on at once; the task of each flow
does so with what the target says. A flow is a connection of the proxy's registry, so that the
limits, the outcomes, the statistics and the drain of connections are its own, too.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, NoReturn, TypeAlias

import attrs
import trio

from techo._addresses import Found, network_of, peer_host
from techo._faults.datagrams import FaultySender, LostOnPurposeError
from techo._faults.plan import Planner
from techo._kernel.datagram_sockets import DatagramSocket, Sender
from techo._log import name_of, rejected
from techo._nursery import open_bare_nursery
from techo._proxying.flow import Flow, Key, known_addresses
from techo._proxying.poll import AVAILABLE, Poll
from techo._server import events
from techo._server.connection import Connection, Outcome, Peer
from techo._server.interceptor import InterceptedError
from techo._server.limits import Limits
from techo._server.registry import Registry
from techo._transport.messages import LARGEST_PACKET
from techo.endpoint import Endpoint

Answer: TypeAlias = Callable[[bytes | memoryview], int]

Serve: TypeAlias = Callable[[DatagramSocket], Awaitable[NoReturn]]

_GONE: Final = {errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET}
"""What sending to a Unix socket meets whose owner has left; UDP has no such errors here."""

_WHY: Final = {errno.EMSGSIZE: "too_large", errno.EAGAIN: "blocked", errno.ENOBUFS: "blocked"}


@attrs.define(eq=False)
class Flows:
    """All flows of a proxy, on any number of listening sockets."""

    target: Endpoint
    limits: Limits
    registry: Registry
    planner: Planner
    """Plans the faults of what the target says."""
    upstream_planner: Planner
    """Plans those of what it is told."""
    nursery: trio.Nursery
    """Where flows live, so that they outlast the loops that receive."""
    _flows: collections.OrderedDict[Key, Flow] = attrs.field(factory=collections.OrderedDict)
    """Those that are not over, the one that was quiet for longest first."""
    _sides: list[_Side] = attrs.field(factory=list)
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(LARGEST_PACKET + 1)))
    _poll: Poll | None = attrs.field(factory=lambda: Poll() if AVAILABLE else None)
    _emptied: trio.Event | None = None
    _reached: bool = True
    """Whether the target has answered since it was last unreachable."""

    async def serve(self, place: DatagramSocket, serve: Serve) -> NoReturn:
        """Have a socket served with what passes on, until cancelled.

        Flows go on after that, so that a drain loses no reply, until `close`.
        """
        side = _Side(self, len(self._sides), place)
        self._sides.append(side)
        self.nursery.start_soon(side.told.deliver)
        self.nursery.start_soon(side.said.deliver)
        try:
            await serve(attrs.evolve(side.place, send=side.send, echoes=False))
        finally:
            side.told.flush()
        raise AssertionError("the loop ended without having been cancelled")

    async def run(self) -> None:
        """Pass on what the target says, until cancelled, where that is not up to each flow."""
        if self._poll is not None:
            await self._poll.run()

    def pass_on(
        self, key: Key, side: _Side, answer: Answer | None, data: bytes | memoryview
    ) -> int:
        """Send a datagram to the target, from the socket of its source.

        Without an `answer` it is the one that was received last.

        Raises:
            OSError: it cannot be sent.
        """
        flow = self._flows.get(key)
        if flow is not None:
            self._flows.move_to_end(key)
            try:
                size = flow.pass_on(data)
            except OSError:
                # What came back was about an earlier one, and somebody may be there again.
                if not flow.over:
                    raise
                flow = None
        if flow is None:
            flow = self._open(key, side, answer)
            size = flow.pass_on(data)
        flow.connection.received(size, trio.current_time())
        return size

    def _open(self, key: Key, side: _Side, answer: Answer | None) -> Flow:
        _, sender, _ = key
        host = peer_host(sender) if isinstance(sender, tuple) else None
        now = trio.current_time()
        connection = Connection(
            peer=Peer(name_of(sender), host),
            endpoint=side.place.endpoint,
            opened=now,
            idle_timeout=self.limits.idle_timeout,
            expires=now + self.limits.lifetime,
        )
        self._admit(connection)
        timeout = self.limits.handshake_timeout
        answer = answer or side.place.later(sender)
        receive, ended = side.receive, self._ended
        flow = Flow(
            key, self.target, connection, answer, timeout, receive, ended, poll=self._poll
        )
        self._flows[key] = flow
        if (found := known_addresses(self.target)) is not None:
            self._begin(flow, found)
        if self._reached:  # or there would be a line for each datagram
            events.connected(connection)
        self.nursery.start_soon(flow.run)
        return flow

    def _begin(self, flow: Flow, found: list[Found]) -> None:
        try:
            flow.begin(found)
        except OSError as error:
            if flow.connection.outcome is not Outcome.ABORTED:
                raise
            # The next source has room then, and this one if it sends again.
            self._refuse_quietest("too few descriptors or too little memory")
            raise OSError(errno.ENOBUFS, error.strerror) from error

    def _admit(self, connection: Connection) -> None:
        """Record a new flow; those that were quiet for longest make room.

        Raises:
            OSError: streams have all the room.
        """
        registry, most = self.registry, self.limits.max_connections
        full = f"max-connections {most} reached"
        if len(registry) >= most:
            self._refuse_quietest(full)
        if len(registry) >= most or not registry.open(connection):
            raise OSError(errno.ENOBUFS, full)
        if not registry.admit(connection):
            reason, connection.reason = connection.reason, ""
            self._refuse_quietest(reason, network_of(connection.peer.host or ""))
            if not registry.admit(connection):
                connection.outcome = Outcome.REFUSED
                registry.close(connection)
                events.closed(connection, registry.throttle)
                raise OSError(errno.ENOBUFS, reason)

    def _refuse_quietest(self, reason: str, host: str | None = None) -> None:
        """End the flow that was quiet for longest, of those of a host if that is the limit."""
        for flow in self._flows.values():
            if host is None or flow.connection.counted_host == host:
                flow.connection.reason = reason
                flow.end(Outcome.REFUSED)
                return

    def receive(self, flow: Flow, sock: socket.socket) -> memoryview | None:
        """Receive one datagram of the target; return None if it was too long to be whole.

        It is overwritten by the next.

        Raises:
            OSError: there is none, or the target refuses what it was sent.
        """
        size = sock.recv_into(self._buffer)
        flow.answered = self._reached = True
        self._flows.move_to_end(flow.key)
        return None if size > LARGEST_PACKET else self._buffer[:size]

    def _ended(self, flow: Flow) -> None:
        del self._flows[flow.key]
        if not self._flows and self._emptied is not None:
            self._emptied.set()
        self.registry.close(flow.connection)
        if flow.connection.outcome is Outcome.UNREACHABLE:
            self._reached = False
        events.closed(flow.connection, self.registry.throttle)

    async def wait(self) -> None:
        """Wait until all are over."""
        await trio.lowlevel.checkpoint()
        if self._flows:
            self._emptied = trio.Event()
            await self._emptied.wait()

    def close(self) -> None:
        """Send all that a fault holds back, and close what flows have answered from."""
        for side in self._sides:
            side.said.flush()
            side.place.sock.close()


def _twin(place: DatagramSocket) -> DatagramSocket:
    """Return the same socket once more, which outlasts the first."""
    return attrs.evolve(DatagramSocket.of(place.sock.dup()), endpoint=place.endpoint)


@attrs.define(eq=False)
class _Side:
    """One listening socket."""

    flows: Flows
    number: int
    place: DatagramSocket = attrs.field(converter=_twin)
    said: FaultySender = attrs.field(init=False)
    """Sends what the target says, with faults."""
    told: FaultySender = attrs.field(init=False)
    """Sends what the target is told, likewise."""

    @said.default
    def _make_said(self) -> FaultySender:
        return FaultySender(self.flows.planner, lambda flow: flow.answer)

    @told.default
    def _make_told(self) -> FaultySender:
        return FaultySender(self.flows.upstream_planner, self._later)

    def _later(self, sender: Sender) -> Answer:
        """Return what passes on a datagram of a sender, at any time."""
        key, answer = self._key(sender), self.place.later(sender)
        return lambda data: self.flows.pass_on(key, self, answer, data)

    def _key(self, sender: Sender) -> Key:
        return self.number, sender, self.place.asked()

    def send(self, data: memoryview | bytes, sender: Sender) -> int:
        """Pass on the datagram received last; return the bytes sent now or later.

        Raises:
            InterceptedError: a fault has kept it from being sent.
            OSError: it cannot be sent.
        """
        if not self.flows.upstream_planner.faults:
            key = self._key(sender)
            return self.flows.pass_on(key, self, None, data)
        try:
            return self.told.send(data, sender)
        except LostOnPurposeError as error:
            raise InterceptedError(str(error)) from None

    def receive(self, flow: Flow, sock: socket.socket) -> None:
        """Pass on one datagram of the target to the source.

        Raises:
            OSError: there is none, or the target refuses what it was sent.
        """
        data = self.flows.receive(flow, sock)
        if data is None:
            self._note_lost(flow, "truncated")
            return
        faulty = self.flows.planner.faults
        try:
            sent = self.said.send(data, flow) if faulty else flow.answer(data)
        except LostOnPurposeError:
            flow.connection.progress = trio.current_time()
        except OSError as error:
            self._note_lost(flow, _WHY.get(error.errno or 0, "unreachable"))
            if error.errno in _GONE:
                flow.end(Outcome.RESET)
        else:
            flow.connection.sent(sent)

    def _note_lost(self, flow: Flow, why: str) -> None:
        kind = "dropped", f"datagrams of the target not passed on ({why})", self.place.endpoint
        connection = flow.connection
        rejected(self.flows.registry.throttle, kind, connection.peer.name, connection.id)


@contextlib.asynccontextmanager
async def open_flows(
    target: Endpoint,
    limits: Limits,
    registry: Registry,
    planner: Planner,
    upstream_planner: Planner,
) -> AsyncIterator[Flows]:
    """Have flows to a target for the length of a block, and until they were drained."""
    async with open_bare_nursery() as nursery:
        flows = Flows(target, limits, registry, planner, upstream_planner, nursery)
        nursery.start_soon(flows.run)
        try:
            yield flows
            await flows.wait()
        finally:
            flows.close()
            nursery.cancel_scope.cancel(reason="the proxy is over")
