"""The pump: one task exchanges messages for all sockets of a run, so that none wakes a task.

The server answers through it. So does the load client: its answer to a reply is its next
message.

What trio spends on a small message is mostly the switch to a task and back. Here the task of
every connection waits inside its cancel scope, while one task of the run receives, replies and
sends for all sockets that are ready. A task is woken when its conversation is over or its time
is up; nurseries and cancel scopes work as in any trio handler.

What may run in a turn of the pump: nothing that waits, nothing that raises. One epoll set holds
the sockets, level triggered: a socket that has more is ready again in the next turn, so that
nothing depends on how much one read has taken. A read that returns less than there was room for
does not show that nothing is left: the kernel stops early at a TCP urgent mark, behind passed
descriptors, where the sender's credentials change, and between the messages of some protocols.
(Edge triggered, each of those stuck; and asking for another event cost a call of the system.)
A reply that a socket would not take whole is kept, and until it is gone nothing else is sent
there: nothing more is buffered. A server does not read that socket meanwhile, a client
(`PumpedSocket.greedy`) does.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import select
from typing import Final

import attrs
import trio

from techo._per_run import OnePerRun
from techo._pump.socket import PumpedSocket, Traffic, broken, closed
from techo._tls.records import OVERHEAD, TlsRecords

AVAILABLE = hasattr(select, "epoll")
"""Whether this system has what a pump needs (Linux). Tests and benchmarks switch it off."""

_TURN: Final = 0.0005
"""Seconds that the pump goes on before other tasks get their turn: a hundred times what one
message takes, and a short wait for the others."""

_LONGEST: Final = 0.005
"""Seconds after which a turn ends even within a batch, where it is TLS that takes so long: a
record of one byte costs as much as a kilobyte does without it."""

_BATCH: Final = 256
"""Sockets taken from the kernel at once: enough to make the call cheap, and few enough not to
make a turn much longer than it should be."""

_BULK: Final = 4
"""Times the receive size that are received at once from a peer which has shown, by reading
`_PROVEN` bytes, that it takes what it asks for; only for `raw`, whose reply does not
depend on where chunks begin. Without this, large messages cost a quarter more."""

_PROVEN: Final = 2**20
"""Bytes: more than the kernel's buffers hold for a peer that never reads."""

_PAUSE: Final = 0.1
"""Seconds for memory to be given back, after there was too little."""

if AVAILABLE:
    _READ: Final = select.EPOLLIN
    """What is asked for, and what an event says when there is just data or an end: no error."""
    _WRITE: Final = select.EPOLLOUT
    _ENDED: Final = select.EPOLLRDHUP  # behind what is to be received first


@attrs.define(eq=False)
class Pump:
    """The epoll set of one trio run, and the task that serves it until the run ends."""

    _epoll: select.epoll = attrs.field(
        factory=lambda: select.epoll()  # noqa: PLW0108  -- not every system has it
    )
    _sockets: dict[int, PumpedSocket] = attrs.field(factory=dict)
    _buffers: dict[tuple[int, bool], list[memoryview]] = attrs.field(factory=dict)
    _events: list[tuple[int, int]] = attrs.field(factory=list)
    """What is left of a batch whose turn was over. To serve a socket in vain does no harm."""

    def _give_buffers(self, socket: PumpedSocket, size: int) -> None:
        """Let a socket receive `size` bytes at a time into what all that do so share."""
        length = size if socket.records is None else size + OVERHEAD
        key = length, socket.packets
        if key not in self._buffers:
            # Whole pages: 16 bytes into one, which is where malloc puts what is this large, a
            # copy costs four times as much on some processors (AMD's Zen).
            self._buffers[key] = [memoryview(mmap.mmap(-1, length))]
        socket.buffers = self._buffers[key]
        socket.room = socket.buffers[0][:size]

    def add(self, socket: PumpedSocket, first: bytes = b"") -> None:
        """Serve a socket from now on: send `first`, then answer what has arrived already.

        For the socket's own task, as `look`.

        Raises:
            OSError: the system has no room for one more, or cannot watch it; nothing was done.
            ValueError: the socket was closed; likewise.
        """
        if socket.fd in self._sockets:
            # The number is in use again: our own program closed the socket that had it, in a
            # way that could not be noticed.
            self.end(self._sockets[socket.fd], closed())
        self._give_buffers(socket, socket.receive_size)
        self._epoll.register(socket.fd, _READ | (socket.greedy and _ENDED))
        self._sockets[socket.fd] = socket
        if socket.sock is not None:
            # Trio lets nobody but those who wait for it know that a socket is being closed.
            close = functools.partial(self._close, socket, socket.sock)
            socket.sock.close = close  # type: ignore[method-assign]  # until `remove`
        if first:
            self.send(socket, first)
        self.look(socket, added=True)

    def look(self, socket: PumpedSocket, *, added: bool = False) -> None:
        """Serve a socket once, if it has something; for its own task.

        What a socket just `added` said together with its handshake is no event any more.
        """
        run, socket.run = socket.run, None  # its context is this one
        now = trio.current_time()
        if added and socket.records is not None:
            try:
                self._exchange(socket, socket.records, now)
            except BaseException as error:  # noqa: BLE001, ASYNC103  -- raised by the task
                self.end(socket, error)
        if self._sockets.get(socket.fd) is socket:
            self._serve([(socket.fd, _READ | _WRITE)], now)
        socket.run = run

    def waiting(self) -> set[int]:
        """Return the numbers of the sockets that have something to be served."""
        return {fd for fd, _ in self._epoll.poll(0, max(1, len(self._sockets)))}

    def half_close(self, socket: PumpedSocket) -> None:
        """Send an end, and discard what still comes: the peer's end is that of it all.

        Only where `socket.sock` is known and nothing is unsent. What comes is not counted.
        """
        socket.reply, socket.run, socket.connection = _discard, None, Traffic()
        records, socket.records = socket.records, None
        if records is not None:
            records.end()
            self._write(socket, records.take())
        if socket.unsent is None and not socket.over:
            self._shut_down(socket)

    def _shut_down(self, socket: PumpedSocket) -> None:
        assert socket.sock is not None  # noqa: S101  -- see `half_close`
        with contextlib.suppress(OSError):  # broken: what arrives next reports that
            socket.sock.shutdown(trio.socket.SHUT_WR)

    def _close(self, socket: PumpedSocket, sock: trio.socket.SocketType) -> None:
        """Close a socket for our own program, and end its conversation."""
        self.end(socket, closed())
        sock.close()

    def send(self, socket: PumpedSocket, data: bytes) -> None:
        """Send without having received; what the socket would not take is sent when it does.

        Only while the conversation is not over and nothing of it is unsent.
        """
        records = socket.records
        if records is not None:
            if records.encrypt(data):
                socket.uncounted += len(data)
            data = records.take()
        self._write(socket, data)
        if records is not None and records.failure is not None:
            self._end_of_records(socket, records)

    def _write(self, socket: PumpedSocket, data: bytes) -> None:
        """Write to a socket, and hold what it would not take."""
        try:
            sent = os.write(socket.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.end(socket, broken(error))
            return
        socket.count_sent(sent, len(data) - sent)
        if sent != len(data):
            self._hold(socket, memoryview(data)[sent:])

    def remove(self, socket: PumpedSocket) -> None:
        """Stop serving a socket, before it is closed."""
        if self._sockets.get(socket.fd) is socket:
            del self._sockets[socket.fd]
            if socket.sock is not None:
                vars(socket.sock).pop("close", None)  # closing it is closing it again
            try:
                self._epoll.unregister(socket.fd)
            except OSError:
                return  # our own program has closed it already

    @staticmethod
    def of_this_run() -> Pump:
        """Return the pump of the present trio run, which is started if there is none yet."""
        return _pump.get()

    async def run(self) -> None:
        """Serve the set until cancelled."""
        with self._epoll:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                try:
                    self._take_turn()
                except MemoryError:  # for which sockets were ready; they will be again
                    await trio.sleep(_PAUSE)

    def _take_turn(self) -> None:
        now = trio.current_time()
        end = now + _TURN
        while now < end and (events := self._events or self._epoll.poll(0, _BATCH)):
            self._events = self._serve(events, now)
            now = trio.current_time()

    def _serve(  # noqa: C901, PLR0912, PLR0915  -- see below
        self, batch: list[tuple[int, int]], now: float
    ) -> list[tuple[int, int]]:
        """Receive, reply and send once for each socket that has something.

        Return the events that there was no time for.

        All in one piece, without a call that is not needed: under load, this is the program.
        """
        sockets, readv, write, data = self._sockets, os.readv, os.write, _READ
        buffers: list[memoryview] = []
        last, most, piece = 0, 0, memoryview(b"")
        events = iter(batch)
        for fd, flags in events:
            try:
                socket = sockets[fd]
            except KeyError:
                continue  # a reply function has just ended it
            try:
                if flags != data:
                    if socket.unsent is not None:
                        self._send_rest(socket, socket.unsent, now)
                        if socket.over or not socket.greedy:
                            continue
                    if flags & _ENDED:  # what is begun now would be lost
                        socket.connection.send_pending = True
                try:
                    size = readv(fd, socket.buffers)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self.end(socket, broken(error))
                    continue
                if not size and not socket.endless:
                    self._end_received(socket, now)
                    continue
                if size != last or socket.buffers is not buffers:
                    last, buffers = size, socket.buffers
                    most, piece = len(buffers[0]), buffers[0][:size]
                    if size == most and socket.packets:
                        last = 0  # or the next one would not be looked at
                        self.end(socket, trio.BrokenResourceError("a message was too long"))
                        continue
                if socket.records is not None:
                    socket.records.feed(piece)
                    self._exchange(socket, socket.records, now)
                    if size == most and socket.reply is None:
                        self._enlarge(socket)
                    if trio.current_time() - now > _LONGEST:
                        break
                    continue
                connection = socket.connection
                connection.chunks += 1
                connection.bytes_in += size
                connection.progress = now
                answer: bytes | memoryview = piece
                if socket.reply is None:
                    length = size
                else:
                    if socket.run is None:
                        answer = socket.reply(bytes(piece))
                    else:
                        answer = socket.run(socket.reply, bytes(piece))
                    if socket.over:
                        continue  # the reply function has closed it, and the number is free
                    length = len(answer)
                if length:  # or it would be an end, where messages are kept apart
                    try:
                        sent = write(fd, answer)
                    except BlockingIOError:
                        sent = 0
                    except OSError as error:
                        self.end(socket, broken(error))
                        continue
                    connection.bytes_out += sent
                    if sent != length:
                        self._hold(socket, memoryview(bytes(answer[sent:])))
                        continue
                if size == most and socket.reply is None:
                    self._enlarge(socket)
            except BaseException as error:  # noqa: BLE001, ASYNC103  -- raised by the task
                self.end(socket, error)
        return [*events]

    def _end_received(self, socket: PumpedSocket, now: float) -> None:
        """End a conversation whose peer has finished; over TLS there are words for that."""
        if socket.records is None:
            self.end(socket)
        else:
            socket.records.feed_end()
            self._exchange(socket, socket.records, now)

    def _exchange(self, socket: PumpedSocket, records: TlsRecords, now: float) -> None:
        """Reply to all that was received in records so far."""
        connection, room = socket.connection, socket.room
        connection.progress = now
        while size := records.decrypt(room):
            connection.chunks += 1
            connection.bytes_in += size
            answer: bytes | memoryview = room[:size]
            if socket.reply is not None:
                chunk = bytes(answer)
                answer = socket.run(socket.reply, chunk) if socket.run else socket.reply(chunk)
                if socket.over:
                    return  # the reply function has closed it
            if records.encrypt(answer):
                socket.uncounted += len(answer)
            if size < len(room):
                break
        if records.made:
            if socket.unsent is None:
                self._write(socket, records.take())
            else:
                socket.unsent = memoryview(bytes(socket.unsent) + records.take())
        ended = records.peer_ended and (socket.unsent is None or socket.greedy)
        if ended or records.failure is not None:
            self._end_of_records(socket, records)

    def _end_of_records(self, socket: PumpedSocket, records: TlsRecords) -> None:
        if socket.over:  # as it is if the last of them could not be written
            return
        if records.failure is None and socket.unsent is None:
            # Our close_notify, for which no task need be woken; a peer may be gone by now.
            records.end()
            with contextlib.suppress(OSError):
                os.write(socket.fd, records.take())
        self.end(socket, records.error)

    def _enlarge(self, socket: PumpedSocket) -> None:
        """Receive more at once from a peer that sends much and has shown that it reads."""
        if socket.connection.bytes_out >= _PROVEN:
            self._give_buffers(socket, _BULK * socket.receive_size)

    def _hold(self, socket: PumpedSocket, rest: memoryview) -> None:
        """Keep the rest of a reply until it can be sent; only greedy sockets read meanwhile."""
        if socket.unsent is None:
            socket.connection.send_pending = True
            self._epoll.modify(socket.fd, _READ | _WRITE | _ENDED if socket.greedy else _WRITE)
        socket.unsent = rest

    def _send_rest(self, socket: PumpedSocket, rest: memoryview, now: float) -> None:
        try:
            sent = os.write(socket.fd, rest)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(socket, broken(error))
            return
        socket.count_sent(sent, len(rest) - sent)
        socket.connection.progress = now
        if sent < len(rest):
            self._hold(socket, rest[sent:])
            return
        socket.unsent = None
        socket.connection.send_pending = False
        self._epoll.modify(socket.fd, _READ | (socket.greedy and _ENDED))
        if socket.reply is _discard:
            self._shut_down(socket)
        elif socket.records is not None and socket.records.peer_ended:
            self._end_of_records(socket, socket.records)

    def end(self, socket: PumpedSocket, error: BaseException | None = None) -> None:
        """End the conversation: wake its task, which raises the error if there is one."""
        self.remove(socket)
        socket.over, socket.error = True, error
        if socket.task is not None:
            trio.lowlevel.reschedule(socket.task)
            socket.task = None


def _discard(_chunk: bytes) -> bytes:
    return b""


_pump: Final = OnePerRun(Pump, "techo pump")
