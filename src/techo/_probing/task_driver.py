"""The driver by two tasks, over whatever there is: memory, streams of others."""

from __future__ import annotations

import collections
import math
from typing import NoReturn

import attrs
import trio

from techo._probing.causes import cause_of
from techo._probing.driver import CLOSING, FAILURES, Driver
from techo._probing.failure_cause import FailureCause
from techo._probing.trip import Trip
from techo._transport.transport import RECEIVE_SIZE


@attrs.define(eq=False)
class TaskDriver(Driver):
    """By two tasks, over whatever there is: memory, streams of others, other systems."""

    _outbox: collections.deque[tuple[bytes, Trip | None]] = attrs.field(
        factory=collections.deque, init=False
    )
    _more: trio.Event = attrs.field(factory=trio.Event, init=False)
    _sent: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set when the outbox is empty, and all of it was sent or could not be."""
    _sending_since: float = attrs.field(default=math.inf, init=False)
    _send_error: Exception | None = attrs.field(default=None, init=False)

    def go_on(self) -> None:
        while data := self.in_flight.next(self.in_flight.run.clock()):
            self._send(data)

    @property
    def send_pending_since(self) -> float:
        return self._sending_since

    def _send(self, data: bytes) -> None:
        """Have it sent; the next may be given at once."""
        self._outbox.append((data, next(reversed(self.in_flight.trips), None)))
        if self._sent.is_set():
            self._sent = trio.Event()
        self._more.set()

    async def _exchange(self, *, begin: bool) -> None:
        self._sending_since = math.inf
        error: Exception | None = None
        if begin:
            self.go_on()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_all, nursery.cancel_scope)
            try:
                await self._receive_all()
            except FAILURES as failure:
                error = failure
            if self._sending_since < math.inf and not self.transport.connectionless:
                # The system reports a reset to one side only, and the other sees an end.
                # Closing ends the sending, which shows what that side has seen.
                await trio.aclose_forcefully(self.transport)
                with trio.move_on_after(CLOSING):
                    await self._sent.wait()
            nursery.cancel_scope.cancel(reason="the connection is over")
        if error is None or cause_of(error) is FailureCause.EOF:
            error = self._send_error or error
        if error is not None:
            raise error

    async def _receive_all(self) -> None:
        transport, in_flight = self.transport, self.in_flight
        while (chunk := await transport.receive(RECEIVE_SIZE)) is not None:
            in_flight.traffic.chunks += 1
            if data := in_flight.answer(bytes(chunk)):
                self._send(data)

    async def _send_all(self, whole: trio.CancelScope) -> NoReturn:
        self._send_error = None
        while True:
            while self._outbox:
                self._sending_since = self.in_flight.run.clock()
                data, trip = self._outbox.popleft()
                try:
                    await self.transport.send(data)
                except FAILURES as error:
                    self._note_send_error(error, trip)
                    if self.transport.connectionless and not self.in_flight.trips:
                        whole.cancel(reason="no datagram can be sent")
            self._sending_since = math.inf
            self._sent.set()
            self._more = trio.Event()
            await self._more.wait()

    def _note_send_error(self, error: Exception, trip: Trip | None) -> None:
        """Keep the error if it says more than the end that is received after it.

        What had come back by then is still received, and then an end that may be all that is
        left of a reset. A socket for datagrams sees no end.
        """
        if self.transport.connectionless:
            self._send_error = error
        if self._is_about_one_message(error):
            if trip in self.in_flight.trips:
                self._lose_unsent(trip, error)
        elif isinstance(error.__cause__, ConnectionResetError):
            self._send_error = error
