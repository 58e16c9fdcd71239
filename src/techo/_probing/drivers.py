"""Drivers: how messages get to the server and back, by the pump or by two tasks."""

from __future__ import annotations

import abc
import collections
import errno
import math
import os
from collections.abc import Iterator
from typing import Final, NoReturn

import attrs
import trio

from techo._client.comparison import EchoError
from techo._probing.causes import cause_of, words_of
from techo._probing.failure_cause import FailureCause
from techo._probing.in_flight import InFlight, Run
from techo._probing.trip import Ending, Trip
from techo._pump import pump
from techo._pump.socket import PumpedSocket
from techo._transport.messages import LARGEST_PACKET
from techo._transport.transport import RECEIVE_SIZE, Transport

_FAILURES: Final = (OSError, EchoError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What the network and the server do; everything else is a bug."""

_CLOSING: Final = 1.0
"""Seconds that a graceful close may take."""


@attrs.define(eq=False)
class Driver(abc.ABC):
    """What makes the trips over one connection, or over one socket for datagrams."""

    transport: Transport
    in_flight: InFlight
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _aborted: Ending | None = attrs.field(default=None, init=False)
    _reported: Exception | None = attrs.field(default=None, init=False)
    """The error of the last message that could not be sent, which is lost already."""

    async def run(self) -> Ending:
        """Make trips until the connection is over; return why.

        An error about one message costs that one trip. A connection goes on after it, and a
        socket for datagrams does while other trips are in flight. Cancellation leaves trips in
        flight, as they are.
        """
        begin, connectionless = True, self.transport.connectionless
        while True:
            ending = await self._run_once(begin=begin)
            over = self._aborted is not None or not self._is_about_one_message(ending.error)
            if ending.error is None or ending.error is not self._reported:
                trips = list(self.in_flight.trips)
                one = trips[-1:] if _is_too_long(ending.error) else trips[:1]
                self.in_flight.end(ending, trips if over else one)
            if over or (connectionless and not self.in_flight.trips):
                return ending
            begin = False  # or one refusal after the other would be asked for, without a pause

    async def _run_once(self, *, begin: bool) -> Ending:
        error: Exception | None = None
        with trio.CancelScope() as self._scope:
            try:
                await self._exchange(begin=begin)
            except _FAILURES as failure:
                error = failure
        if self._aborted is not None:
            return self._aborted
        if error is not None and (cause := cause_of(error)) is not FailureCause.EOF:
            return Ending(cause, words_of(error), error)
        if self.in_flight.midway:
            return Ending(
                FailureCause.SHORT, "the server ended the connection in mid-reply", error
            )
        return Ending(FailureCause.EOF, "the server ended the connection", error)

    def abort(self, ending: Ending) -> None:
        """End the run of this connection for a reason of our own."""
        self._aborted = ending
        self._scope.cancel(reason=ending.reason)

    async def close(self) -> None:
        """Close gracefully, for a second at most, even if cancelled."""
        with trio.move_on_after(_CLOSING, shield=True):
            try:
                await self.transport.aclose()
            except _FAILURES:
                return  # the peer has closed it already, and why is known

    @abc.abstractmethod
    def go_on(self) -> None:
        """Send what is due, as far as there is room for it."""

    @property
    @abc.abstractmethod
    def send_pending_since(self) -> float:
        """Since when the transport has not taken what it was given; infinity if it has."""

    @abc.abstractmethod
    async def _exchange(self, *, begin: bool) -> None:
        """Send what is due, if this is to begin, and then receive, until the end."""

    def _is_about_one_message(self, error: BaseException | None) -> bool:
        if isinstance(error, trio.ClosedResourceError):
            return False
        return self.transport.connectionless or _is_too_long(error)

    def _lose_unsent(self, trip: Trip, error: Exception) -> None:
        """Lose a message that could not be sent; those before it may still come back."""
        self._reported = error
        self.in_flight.end(Ending(cause_of(error), words_of(error), error), [trip])


@attrs.define(eq=False)
class PumpDriver(Driver):
    """By the pump: a message wakes no task."""

    _socket: PumpedSocket | None = attrs.field(default=None, init=False)

    def go_on(self) -> None:
        # What the socket refuses ends its turn; what is due then is for the next one.
        socket = self._socket
        while socket is not None and not socket.over and (data := self._next()):
            pump.Pump.of_this_run().send(socket, data)
            self._lose_if_unsent(socket)

    def _lose_if_unsent(self, socket: PumpedSocket) -> None:
        error, newest = socket.error, next(reversed(self.in_flight.trips), None)
        if isinstance(error, Exception) and self._is_about_one_message(error) and newest:
            self._lose_unsent(newest, error)

    def _next(self) -> bytes:
        return self.in_flight.next(self.in_flight.run.clock())

    @property
    def send_pending_since(self) -> float:
        return self.in_flight.newest if self.in_flight.traffic.send_pending else math.inf

    async def _exchange(self, *, begin: bool) -> None:
        this_pump = pump.Pump.of_this_run()
        messages = self.in_flight.keeps_messages
        assert self.transport.socket is not None  # noqa: S101  -- `driver_for` has seen to it
        self.in_flight.traffic.send_pending = False
        socket = self._socket = PumpedSocket(
            self.transport.socket.fileno(),
            self.in_flight.answer,
            self.in_flight.traffic,
            LARGEST_PACKET + 1 if messages else RECEIVE_SIZE,
            messages,
            greedy=True,
            endless=self.transport.connectionless,
            sock=self.transport.socket,
            records=self.transport.records,
        )
        # The first trip begins before anything is received: an end that has arrived already is
        # the end of that trip.
        first = self._next() if begin else b""
        if socket.fd < 0:
            raise trio.ClosedResourceError("the stream was closed")
        this_pump.add(socket, first)
        try:
            self._lose_if_unsent(socket)
            if begin:
                self.go_on()
            await socket.wait()
        finally:
            this_pump.remove(socket)
            self._socket = None
            if socket.unsent is not None and self.transport.records is not None:
                self.transport.records.eof_sent = True  # as well as it can be: a record is cut
        error = socket.error
        if isinstance(error, trio.BrokenResourceError) and not self.transport.connectionless:
            error = self._receive_rest(socket.fd, error)
        if error is not None:
            raise error

    def _receive_rest(self, fd: int, error: trio.BrokenResourceError) -> Exception | None:
        """Take in what came back before sending failed; return the error, if it was no end.

        An alert of TLS is an error that says more than that of the sending.
        """
        self.in_flight.traffic.send_pending = True  # so that nothing more is begun
        try:
            for data in self._arrived(fd):
                self.in_flight.answer(data)
        except OSError:
            return self._failure or error
        except EchoError as mismatch:
            return mismatch
        was_reset = isinstance(error.__cause__, ConnectionResetError)
        return self._failure or (error if was_reset else None)

    @property
    def _failure(self) -> trio.BrokenResourceError | None:
        """What TLS has failed with."""
        return None if self.transport.records is None else self.transport.records.error

    def _arrived(self, fd: int) -> Iterator[bytes]:
        """Yield what has arrived, of which records may have come with the handshake."""
        if (records := self.transport.records) is None:
            while chunk := os.read(fd, RECEIVE_SIZE):
                yield chunk
            return
        room = memoryview(bytearray(RECEIVE_SIZE))
        while True:
            while size := records.decrypt(room):
                yield bytes(room[:size])
            over = records.peer_ended or records.failure is not None
            if over or not (chunk := os.read(fd, RECEIVE_SIZE)):
                return
            records.feed(chunk)


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
            except _FAILURES as failure:
                error = failure
            if self._sending_since < math.inf and not self.transport.connectionless:
                # The system reports a reset to one side only, and the other sees an end.
                # Closing ends the sending, which shows what that side has seen.
                await trio.aclose_forcefully(self.transport)
                with trio.move_on_after(_CLOSING):
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
            self._sent = trio.Event()
            while self._outbox:
                self._sending_since = self.in_flight.run.clock()
                data, trip = self._outbox.popleft()
                try:
                    await self.transport.send(data)
                except _FAILURES as error:
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


def _is_too_long(error: BaseException | None) -> bool:
    """Return whether nothing was sent of the message that was to be sent last."""
    return isinstance(error, OSError) and error.errno == errno.EMSGSIZE


def driver_for(transport: Transport, run: Run) -> Driver:
    """Return what makes trips over `transport`: the pump, where it can."""
    in_flight = InFlight(run, transport.keeps_messages)
    if transport.pumpable and pump.AVAILABLE:
        return PumpDriver(transport, in_flight)
    return TaskDriver(transport, in_flight)
