"""The driver whose trips the kernel times, from its stamp of sending to that of receiving.

It asks the system for one message at a time, or over a stream for no more than the rest of one:
the stamp that comes with bytes is that of the last. Stamps of sending come by the error queue.
While anything is in that, the socket is ready for ever, so it is emptied first on every wake.
"""

from __future__ import annotations

import functools
import math
import socket
from typing import Final

import attrs
import trio

from techo._kernel import stamps
from techo._kernel.error_queue import SendStamp, read_errors
from techo._kernel.packets import Packet, ask_for_headers, receive_packet
from techo._kernel.reports import ReportedError, ask_for_reports, standard
from techo._probing.driver import FAILURES, Driver, is_too_long
from techo._probing.stamping import Stamping
from techo._probing.task_driver import TaskDriver
from techo._probing.trip import Trip
from techo._pump.socket import broken, closed
from techo._transport.racing import RacingTransport
from techo._transport.transport import RECEIVE_SIZE, Transport

_READS: Final = 64
"""Reads in one turn, so that a flood does not hold up the run."""


_END_OF_MESSAGE: Final = getattr(socket, "MSG_EOR", 0)
"""Keeps TCP from sending a message's last byte in one segment with the next one's first, which
would have the only stamp."""

_TRIES: Final = 20
_TRY_EVERY: Final = 0.001
"""How often is looked whether stamps have begun, and seconds between; mostly two are enough."""


def switch_stamps_on(
    transport: Transport, sending: stamps.Sending = stamps.Sending.LEFT
) -> bool:
    """Have the kernel stamp what `transport` sends and receives; return whether it does.

    Of several addresses nothing is stamped until one of them is kept.
    """
    several = isinstance(transport, RacingTransport)
    one = transport.one if isinstance(transport, RacingTransport) else transport
    if not (one.pumpable or one.packet_format):  # what is sent is more than the message
        return False
    if transport.socket is None:
        return several and _datagrams_have_stamps()
    if transport.socket.fileno() < 0:
        return False
    with standard(transport.socket.fileno()) as sock:
        tcp = not transport.keeps_messages
        return stamps.switch_on(sock, tcp=tcp, sending=sending)


@functools.cache
def _datagrams_have_stamps() -> bool:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        return stamps.switch_on(sock, tcp=False)


@attrs.define(eq=False)
class _RaceDriver(TaskDriver):
    """The driver of datagrams to several addresses, until one has answered."""

    async def _receive_all(self) -> None:
        while self.transport.socket is None:
            self.in_flight.traffic.chunks += 1
            if data := self.in_flight.answer(bytes(await self.transport.receive() or b"")):
                self._send(data)
        await self._sent.wait()


@attrs.define(eq=False)
class KernelDriver(Driver):
    """By a task that receives, and sending at once, as far as the socket takes it."""

    _stamping: Stamping = attrs.field(init=False)
    _race: _RaceDriver | None = attrs.field(default=None, init=False)
    _ready: bool = attrs.field(default=False, init=False)
    """Whether the kernel stamps what arrives, or has had the time to begin with it."""
    _sock: socket.socket | None = attrs.field(default=None, init=False)
    """The transport's, while messages are exchanged over it."""
    _unsent: memoryview = attrs.field(default=memoryview(b""), init=False)
    """What the socket has not taken."""
    _unsent_trip: Trip | None = attrs.field(default=None, init=False)
    """Whose message ends with that."""
    _stuck: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set when something is unsent."""
    _refusal: ReportedError | None = attrs.field(default=None, init=False)
    """What this machine has said of the last message that was too large to be sent."""
    _packet: Packet = attrs.field(default=Packet(b""), init=False)
    """What was received last."""
    _asked: bool = attrs.field(default=False, init=False)
    """Whether what is due was to be sent when that could not be; nobody asks again."""
    _receiving: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _error: Exception | None = attrs.field(default=None, init=False)
    """What ends the receiving."""
    _room: memoryview = attrs.field(default=memoryview(b""), init=False)
    """Where records are decrypted to, if there are any."""

    def __attrs_post_init__(self) -> None:
        if self.transport.records is not None:
            self._room = memoryview(bytearray(RECEIVE_SIZE))
        self._stamping = Stamping(bytewise=not self.transport.keeps_messages)
        self.in_flight.timed = self._time

    def go_on(self) -> None:
        if self._race is not None and self.transport.socket is None:  # or it is about to end
            self._race.go_on()
        self._asked = not self._open or self._error is not None
        while self._open and self._error is None and (data := self._next()):
            self._send(data)

    @property
    def _open(self) -> bool:
        """Whether there is a socket, and our own program has not closed it."""
        sock = self.transport.socket
        return self._sock is not None and sock is not None and sock.fileno() >= 0

    def _next(self) -> bytes:
        return self.in_flight.next(self.in_flight.run.clock())

    @property
    def send_pending_since(self) -> float:
        if self._race is not None:
            return self._race.send_pending_since
        return self.in_flight.newest if self.in_flight.traffic.send_pending else math.inf

    async def _exchange(self, *, begin: bool) -> None:
        if self.transport.socket is None:
            await self._hold_race(begin=begin)
        sock = self.transport.socket
        if sock is None or sock.fileno() < 0:
            raise closed()
        if not self._ready:
            await self._await_stamps()
        self._error, self._receiving = None, trio.CancelScope()
        self._unsent, self._unsent_trip = memoryview(b""), None
        self.in_flight.traffic.send_pending = False
        error: Exception | None = None
        with standard(sock.fileno()) as same:
            self._sock = same
            if self.transport.connectionless:
                ask_for_headers(same)
                ask_for_reports(same)
            try:
                # The first trip begins before anything is received: an end that has arrived
                # already is the end of that trip.
                if begin or self._asked:
                    self.go_on()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_rests, sock)
                    try:
                        with self._receiving:
                            await self._receive_all(sock)
                    except FAILURES as failure:
                        error = failure
                    nursery.cancel_scope.cancel(reason="the connection is over")
            finally:
                self._sock = None
                if self._unsent and self.transport.records is not None:
                    self.transport.records.eof_sent = True  # as well as it can be: it is cut
        error = error or self._error
        if isinstance(error, trio.BrokenResourceError) and not self.transport.connectionless:
            error = self._receive_rest(sock.fileno(), error)
        if error is not None:
            raise error

    async def _await_stamps(self) -> None:
        """Wait until the kernel stamps what arrives, which it does within a moment or never."""
        self._ready = True
        for _ in range(_TRIES):
            if stamps.are_received():
                return
            await trio.sleep(_TRY_EVERY)

    async def _hold_race(self, *, begin: bool) -> None:
        """Send to several addresses until one has answered, whose socket is stamped then."""
        self._race = _RaceDriver(self.transport, self.in_flight)
        try:
            await self._race._exchange(begin=begin)  # noqa: SLF001  -- it is this driver's own
        finally:
            self._reported = self._race._reported  # noqa: SLF001  -- likewise
            self._race = None
        if switch_stamps_on(self.transport, self.in_flight.run.stamped):
            self._stamping.restart()

    async def _receive_all(self, sock: trio.socket.SocketType) -> None:
        over = self.transport.records is not None and self._decrypt()
        while not over and not self._take_turn():
            await trio.lowlevel.wait_readable(sock)

    def _take_turn(self) -> bool:
        """Receive what has arrived; return whether that was the end."""
        self._read_errors()
        for _ in range(_READS):
            if self._error is not None or not self._open:
                break
            packet = self._receive(self._most)
            if packet is None:
                break
            if self._take(packet):
                return True
        return False

    def _receive(self, most: int) -> Packet | None:
        """Receive up to `most` bytes, or a message; None if nothing has arrived."""
        assert self._sock is not None  # noqa: S101  -- the caller has seen to it
        try:
            return receive_packet(self._sock, most)
        except BlockingIOError:
            return None
        except OSError as error:
            if self.transport.connectionless and self._read_errors():
                return None
            raise broken(error) from error

    @property
    def _most(self) -> int:
        """How many bytes to receive, so that the stamp with them is of what they complete."""
        if self.transport.keeps_messages:
            return RECEIVE_SIZE
        if self.transport.records is not None:
            return self.transport.records.framing.missing
        return min(self.in_flight.missing_bytes or RECEIVE_SIZE, RECEIVE_SIZE)

    def _take(self, packet: Packet) -> bool:
        """Take in what was received; return whether it is the end."""
        self._packet = packet
        records = self.transport.records
        if records is not None:
            if packet.data:
                records.feed_framed(packet.data)
            else:
                records.feed_end()
            return self._decrypt()
        if not packet.data and not self.transport.connectionless:
            return True
        if packet.truncated:
            raise trio.BrokenResourceError("a message was too long")
        layout = self.transport.packet_format
        data = packet.data if layout is None else layout.payload_of(packet)
        if data is not None:
            self._answer(data + self._surplus(len(data)))
        return False

    def _surplus(self, size: int) -> bytes:
        """Return what came too much with the last reply that is due over a stream.

        That is this reply's fault: the next message was not even sent.
        """
        if self.in_flight.missing != 1 or size != self.in_flight.missing_bytes:
            return b""
        try:
            surplus = self._receive(RECEIVE_SIZE)
        except trio.BrokenResourceError as error:
            self._fail(error)
            return b""
        return b"" if surplus is None else surplus.data

    def _answer(self, data: bytes) -> None:
        self.in_flight.traffic.chunks += 1
        if more := self.in_flight.answer(data):
            self._send(more)

    def _decrypt(self) -> bool:
        """Take in the records that are whole; return whether they were the last."""
        records = self.transport.records
        assert records is not None  # noqa: S101  -- the callers have seen to it
        while size := records.decrypt(self._room):
            self._answer(bytes(self._room[:size]))
            if size < len(self._room):
                break
        if records.made:  # such as the answer to a key update, or an alert
            self._write(records.take(), None)
        if records.error is not None:
            raise records.error
        return records.peer_ended

    def _time(self, trip: Trip) -> None:
        """Time a trip that has arrived; its stamp of sending may have come after its reply."""
        if self._race is not None:
            return
        if trip.sent_ns is None:
            self._read_errors()
        self._stamping.time(trip, self._packet)

    def _read_errors(self) -> bool:
        """Empty the error queue; return whether the network has reported something."""
        reports: list[ReportedError] = []
        for entry in () if self._sock is None else read_errors(self._sock):
            if isinstance(entry, SendStamp):
                self._stamping.take(entry)
            elif (report := ReportedError.of(entry)).local:
                self._refusal = report
            else:
                self._take_report(report)
                reports.append(report)
        # A way that is too narrow for one message serves others.
        if reports and not is_too_long(reports[-1]):
            self._error = reports[-1]
            self._receiving.cancel(reason="a report")
        return bool(reports)

    def _fail(self, error: Exception) -> None:
        """End the receiving."""
        self._error = self._error or error
        self._receiving.cancel(reason="an error")

    def _send(self, data: bytes) -> None:
        """Send the messages that have begun last."""
        records = self.transport.records
        if records is not None:
            records.encrypt(data)
            data = records.take()
        layout = self.transport.packet_format
        if layout is not None:
            data = layout.framed(data)
        self._write(data, next(reversed(self.in_flight.trips), None))
        if records is not None and records.error is not None:
            self._fail(records.error)

    def _write(self, data: bytes, trip: Trip | None) -> None:
        """Write what ends the message of `trip`, if of any; keep what the socket won't take."""
        if self._unsent:  # as when the peer's records are to be answered
            self._unsent, self._unsent_trip = memoryview(bytes(self._unsent) + data), None
            return
        self._unsent, self._unsent_trip = memoryview(data), trip
        self._write_unsent()
        if self._unsent:
            self.in_flight.traffic.send_pending = True
            self._stuck.set()

    def _write_unsent(self) -> None:
        trip = self._unsent_trip
        try:
            sent = self._transmit(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._unsent = memoryview(b"")
            self._read_errors()
            failure = broken(error)
            if is_too_long(error):
                failure, self._refusal = self._refusal or error, None
            if trip in self.in_flight.trips and self._is_about_one_message(failure):
                self._lose_unsent(trip, failure)
            self._fail(failure)
            return
        self._unsent = self._unsent[sent:]
        self._stamping.note_sent(sent, None if self._unsent else trip)
        self._read_errors()  # most often it is there already, and need not wake a task

    def _transmit(self, data: memoryview) -> int:
        assert self._sock is not None  # noqa: S101  -- nothing is sent otherwise
        try:
            return self._sock.send(data, _END_OF_MESSAGE)
        except BlockingIOError:
            raise
        except OSError as error:
            # Some kernels number what they do not send.
            self._renumber(self._sock)
            if not self.transport.connectionless or is_too_long(error):
                raise
            # It may be about an earlier datagram (udp(7)), and is told but once.
            reported = self._read_errors()
            sent = self._sock.send(data)
            if not reported and len(self.in_flight.trips) > 1:
                self._fail(broken(error))
            return sent

    def _renumber(self, sock: socket.socket) -> None:
        if not self._stamping.bytewise:
            stamps.switch_off(sock)
            stamps.switch_on(sock, tcp=False, sending=self.in_flight.run.stamped)
            self._stamping.restart()

    async def _send_rests(self, sock: trio.socket.SocketType) -> None:
        """Send what the socket did not take at once, when it does."""
        try:
            while True:
                await self._stuck.wait()
                self._stuck = trio.Event()
                while self._unsent:
                    await trio.lowlevel.wait_writable(sock)
                    self._read_errors()
                    self._write_unsent()
                self.in_flight.traffic.send_pending = False
                self.go_on()
        except trio.ClosedResourceError as error:
            self._fail(error)
