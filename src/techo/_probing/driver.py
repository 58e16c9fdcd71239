"""The driver: what makes the trips over one connection; how, the three kinds differ in."""

from __future__ import annotations

import abc
import errno
import os
from collections.abc import Iterator
from typing import Final

import attrs
import trio

from techo._client.comparison import EchoError
from techo._kernel.reports import ReportedError
from techo._probing.causes import cause_of, words_of
from techo._probing.failure_cause import FailureCause
from techo._probing.in_flight import InFlight
from techo._probing.trip import Ending, Trip
from techo._transport.transport import RECEIVE_SIZE, Transport

FAILURES: Final = (OSError, EchoError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What the network and the server do; everything else is a bug."""

CLOSING: Final = 1.0
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
    _finished: bool = attrs.field(default=False, init=False)

    async def run(self) -> Ending | None:
        """Make trips until the connection is over; return why, or None if it was finished.

        An error about one message costs that one trip. A connection goes on after it, and a
        socket for datagrams does while other trips are in flight. Cancellation leaves trips in
        flight, as they are.
        """
        begin, connectionless = True, self.transport.connectionless
        while True:
            ending = await self._run_once(begin=begin)
            if self._finished:
                return None
            over = self._aborted is not None or not self._is_about_one_message(ending.error)
            if ending.error is None or ending.error is not self._reported:
                trips = list(self.in_flight.trips)
                one = trips[-1:] if is_too_long(ending.error) else trips[:1]
                self.in_flight.end(ending, trips if over else one)
            if over or (connectionless and not self.in_flight.trips):
                return ending
            begin = False  # or one refusal after the other would be asked for, without a pause

    async def _run_once(self, *, begin: bool) -> Ending:
        error: Exception | None = None
        with trio.CancelScope() as self._scope:
            try:
                await self._exchange(begin=begin)
            except FAILURES as failure:
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

    def finish(self) -> None:
        """End the run of this connection: all its trips are made."""
        self._finished = True
        self._scope.cancel(reason="all trips over this connection are made")

    async def close(self) -> None:
        """Close gracefully; see `close_in_time`."""
        await close_in_time(self.transport)

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
        return self.transport.connectionless or is_too_long(error)

    def _lose_unsent(self, trip: Trip, error: Exception) -> None:
        """Lose a message that could not be sent; those before it may still come back."""
        self._reported = error
        self.in_flight.end(Ending(cause_of(error), words_of(error), error), [trip])

    def _take_report(self, report: ReportedError) -> None:
        """Lose the trip that the network reports about, if it is still in flight."""
        trip = self.in_flight.quoted(report.quoted)
        if trip is not None:
            self._lose_unsent(trip, report)
        self._reported = report

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


def is_too_long(error: BaseException | None) -> bool:
    """Return whether nothing was sent of the message that was to be sent last."""
    return isinstance(error, OSError) and error.errno == errno.EMSGSIZE


async def close_in_time(transport: Transport) -> None:
    """Close gracefully, for a second at most, even if cancelled."""
    with trio.move_on_after(CLOSING, shield=True):
        try:
            await transport.aclose()
        except FAILURES:
            return  # the peer has closed it already, and why is known
