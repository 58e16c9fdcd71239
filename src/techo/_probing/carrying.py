"""Carrying: how the trips of a lane get to the server and back, by the pump or by two tasks."""

from __future__ import annotations

import abc
import collections
import contextlib
import math
from typing import Final

import attrs
import trio

from techo._client.client import RECEIVE_SIZE
from techo._client.comparison import EchoError
from techo._client.connecting import Line
from techo._client.datagram_socket import DatagramSocket
from techo._packets import LARGEST_PACKET, PacketStream
from techo._probing.causes import FailureCause, cause_of
from techo._probing.lane import Lane, Work
from techo._pump import pump
from techo._pump.pump import PumpedSocket

_FAILURES: Final = (OSError, EchoError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What the network and the server do; everything else is a bug."""

_FAREWELL: Final = 1.0
"""Seconds."""


@attrs.define(eq=False)
class Carrier(abc.ABC):
    """One connection, or one socket for datagrams, and the trips over it."""

    line: Line
    lane: Lane
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def cut(self) -> None:
        """End it, because a reply has not come in time."""
        self._scope.cancel(reason="no reply in time")

    async def carry(self) -> FailureCause:
        """Make trips until the connection is no more; say why. Cancellation loses them."""
        cause = FailureCause.TIMEOUT_REPLY
        with self._scope:
            try:
                await self._carry()
                cause = FailureCause.SHORT if self.lane.replied_in_part() else FailureCause.EOF
            except _FAILURES as error:
                cause = self.lane.work.tally.cause_of(error)
        return cause

    async def close(self) -> None:
        """Close the connection, even if cancelled; TLS says farewell, for a second at most."""
        with trio.move_on_after(_FAREWELL, shield=True), contextlib.suppress(*_FAILURES):
            await self.line.aclose()

    @abc.abstractmethod
    def go_on(self) -> None:
        """Send what is due, as far as there is room for it."""

    @property
    @abc.abstractmethod
    def blocked_since(self) -> float:
        """When something was first seen to wait for being sent; infinity if nothing does."""

    @abc.abstractmethod
    async def _carry(self) -> None:
        """Receive until the end."""


@attrs.define(eq=False)
class Pumped(Carrier):
    """By the pump: a message wakes no task."""

    _pump: pump.Pump = attrs.field(factory=pump.Pump.of_this_run, init=False)
    _socket: PumpedSocket = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        assert not isinstance(self.line, trio.SSLStream)  # noqa: S101  -- `carrier_for` saw to it
        messages = self.lane.messages
        size = LARGEST_PACKET + 1 if messages else RECEIVE_SIZE
        self._socket = PumpedSocket(
            self.line.socket.fileno(),  # type: ignore[union-attr]  # of these, all have one
            self.lane.answer,
            self.lane.traffic,
            size,
            self._pump.buffers(size, packets=messages),
            messages,
            greedy=True,
            endless=isinstance(self.line, DatagramSocket),
        )
        self._pump.add(self._socket)

    def go_on(self) -> None:
        # What the socket refuses ends the talk; what is due then is for the next connection.
        while not self._socket.over and (data := self.lane.next(self.lane.work.clock())):
            self._pump.send(self._socket, data)

    @property
    def blocked_since(self) -> float:
        return self.lane.blocked_since if self.lane.traffic.send_pending else math.inf

    async def _carry(self) -> None:
        try:
            await self._socket.wait()
        finally:
            self._pump.remove(self._socket)
        if self._socket.error is not None:
            raise self._socket.error


@attrs.define(eq=False)
class Portable(Carrier):
    """By two tasks, over whatever there is: TLS, memory, other systems."""

    _outbox: collections.deque[bytes] = attrs.field(factory=collections.deque, init=False)
    _more: trio.Event = attrs.field(factory=trio.Event, init=False)
    _sending_since: float = attrs.field(default=math.inf, init=False)
    _failure: Exception | None = attrs.field(default=None, init=False)
    """To be raised without a group round it."""

    def go_on(self) -> None:
        while data := self.lane.next(self.lane.work.clock()):
            self._send(data)

    @property
    def blocked_since(self) -> float:
        return self._sending_since

    def _send(self, data: bytes) -> None:
        """Have it sent; the next may be given at once."""
        self._outbox.append(data)
        self._more.set()

    async def _carry(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_all, nursery.cancel_scope)
            try:
                await self._receive_all()
            except _FAILURES as error:
                # What sending has met is the truth behind an end: see `_send_all`.
                if self._failure is None or cause_of(error) is not FailureCause.EOF:
                    self._failure = error
            nursery.cancel_scope.cancel(reason="the connection is over")
        if self._failure is not None:
            raise self._failure

    async def _receive_all(self) -> None:
        line, lane = self.line, self.lane
        while True:
            if isinstance(line, DatagramSocket):
                chunk: bytes | bytearray = await line.receive()
            elif not (chunk := await line.receive_some(RECEIVE_SIZE)):
                return
            lane.traffic.chunks += 1
            if data := lane.answer(bytes(chunk)):
                self._send(data)

    async def _send_all(self, whole: trio.CancelScope) -> None:
        try:
            while True:
                while self._outbox:
                    self._sending_since = self.lane.work.clock()
                    await self._send_one(self._outbox.popleft())
                self._sending_since = math.inf
                self._more = trio.Event()
                await self._more.wait()
        except _FAILURES as error:
            # What had come back by then is still received, and then an end that may be all that
            # is left of a reset. A socket for datagrams need not hear of it at all.
            self._failure = error
            if isinstance(self.line, DatagramSocket):
                whole.cancel(reason="a datagram can't be sent")

    async def _send_one(self, data: bytes) -> None:
        if isinstance(self.line, DatagramSocket):
            await self.line.send(data)
        else:
            await self.line.send_all(data)


def carrier_for(line: Line, work: Work) -> Carrier:
    """Give what carries trips over `line`: the pump, where it can."""
    lane = Lane(work, isinstance(line, DatagramSocket | PacketStream))
    pumped = isinstance(line, trio.SocketStream | PacketStream | DatagramSocket)
    return Pumped(line, lane) if pumped and pump.AVAILABLE else Portable(line, lane)
