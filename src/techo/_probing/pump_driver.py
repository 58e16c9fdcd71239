"""The driver by the pump, for sockets: a message wakes no task."""

from __future__ import annotations

import math

import attrs
import trio

from techo._kernel.reports import ask_for_reports, reports_of, standard
from techo._probing.driver import Driver
from techo._pump import pump
from techo._pump.socket import PumpedSocket
from techo._transport.messages import LARGEST_PACKET
from techo._transport.transport import RECEIVE_SIZE


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
        newest = next(reversed(self.in_flight.trips), None)
        self._take_reports(socket)
        error = socket.error
        if isinstance(error, Exception) and self._is_about_one_message(error) and newest:
            if newest in self.in_flight.trips:
                self._lose_unsent(newest, error)
            self._reported = error

    def _take_reports(self, socket: PumpedSocket) -> None:
        """Take what the network says of a socket for datagrams that has failed."""
        sock = self.transport.socket
        if socket.error is None or sock is None or sock.fileno() < 0:
            return
        if not self.transport.connectionless:
            return
        with standard(sock.fileno()) as same:
            reports = reports_of(same)
        for report in reports:
            socket.error = report
            if not report.local:
                self._take_report(report)

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
        if self.transport.connectionless:
            with standard(socket.fd) as same:
                ask_for_reports(same)
        this_pump.add(socket, first)
        try:
            self._lose_if_unsent(socket)
            if begin:
                self.go_on()
            await socket.wait()
        finally:
            this_pump.remove(socket)
            self._socket = None
            if socket.unsent is None:
                self.in_flight.traffic.send_pending = False
            if socket.unsent is not None and self.transport.records is not None:
                self.transport.records.eof_sent = True  # as well as it can be: a record is cut
        self._take_reports(socket)
        error = socket.error
        if isinstance(error, trio.BrokenResourceError) and not self.transport.connectionless:
            error = self._receive_rest(socket.fd, error)
        if error is not None:
            raise error
