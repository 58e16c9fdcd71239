"""The splicer: one task passes bytes on for all pairs of sockets of a run, and wakes no other.

It is to a proxy what the pump is to an echo, and as there nothing that runs in a turn waits.
One epoll set holds all sockets, level triggered. What one socket of a pair would not take is
kept, and until it is gone the other is not read: nothing more is buffered.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import select
import socket
from typing import Final

import attrs
import trio

from techo._per_run import OnePerRun
from techo._pump import pump
from techo._server.connection import Connection
from techo._transport.messages import LARGEST_PACKET
from techo._transport.transport import Transport

_TURN: Final = 0.0005
"""Seconds that it goes on before other tasks get their turn, as the pump does."""

_BATCH: Final = 256
"""Sockets taken from the kernel at once, likewise."""

_BULK: Final = 4
"""Times the receive size that are received at once in a direction in which `_PROVEN` bytes
have passed, as the pump does."""

_PROVEN: Final = 2**20

_PAUSE: Final = 0.1
"""Seconds for memory to be given back, after there was too little."""

_UNWATCHED: Final = -1
"""Stands for the events of a socket that is not in the epoll set."""

if pump.AVAILABLE:
    _READ: Final = select.EPOLLIN
    _WRITE: Final = select.EPOLLOUT
    _BROKEN: Final = select.EPOLLERR
    _HUNG_UP: Final = select.EPOLLHUP


@attrs.define(eq=False)
class End:
    """One socket of a pair: what comes from it, and what is to be sent to it."""

    fd: int
    sock: trio.socket.SocketType
    connection: Connection
    by_client: bool
    packets: bool
    outlived: bool
    """Whether what it has sent can still be read once it has closed, as over Unix sockets."""
    bulk: int
    """The most that is received at once, after a while."""
    buffers: list[memoryview]
    """Where to receive: one buffer, which many sockets share."""
    unsent: memoryview | None = None
    """What came from the other end and this one has not taken yet."""
    ended: bool = False
    """Whether its end has come."""
    deaf: OSError | None = None
    """Why it takes nothing any more, while the rest of what it has sent is passed on."""
    watched: int = _UNWATCHED
    """The events that the epoll set has it for."""
    pair: Pair = attrs.field(init=False)
    other: End = attrs.field(init=False)
    sink: int = attrs.field(init=False)
    """The number of the other's socket."""

    @property
    def waiting(self) -> int:
        """How many bytes it has not taken yet."""
        return 0 if self.unsent is None else len(self.unsent)

    @property
    def events(self) -> int:
        """The events that it is to be watched for."""
        other = self.other
        reading = not self.ended and other.unsent is None and other.deaf is None
        return (reading and _READ) | (self.unsent is not None and _WRITE)

    def fail(self) -> OSError:
        """Return the error that the system has for this socket."""
        number = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.ECONNRESET
        return OSError(number, os.strerror(number))


@attrs.define(eq=False)
class Pair:
    """Two sockets whose bytes are passed on to each other."""

    client: End
    target: End
    over: trio.Event = attrs.field(factory=trio.Event)
    """Is set when both ends were passed on, or with an error."""
    finished: bool = False
    """Whether both ends were passed on."""
    error: Exception | None = None

    def __attrs_post_init__(self) -> None:
        self.client.pair = self.target.pair = self
        self.client.other, self.target.other = self.target, self.client
        self.client.sink, self.target.sink = self.target.fd, self.client.fd


@attrs.define(eq=False)
class Splicer:
    """The epoll set of one trio run, and the task that serves it until the run ends."""

    _epoll: select.epoll = attrs.field(
        factory=lambda: select.epoll()  # noqa: PLW0108  -- not every system has it
    )
    _ends: dict[int, End] = attrs.field(factory=dict)
    _buffers: dict[int, list[memoryview]] = attrs.field(factory=dict)

    @staticmethod
    def of_this_run() -> Splicer:
        """Return the splicer of the present trio run, which is started if there is none yet."""
        return _splicer.get()

    def add(
        self, client: Transport, target: Transport, connection: Connection, receive_size: int
    ) -> Pair:
        """Pass on what comes from two sockets from now on, until `remove`.

        Raises:
            OSError: the system has no room for them, or cannot watch them; nothing was done.
            ValueError: one was closed; likewise.
        """
        pair = Pair(
            self._end(client, connection, receive_size, by_client=True),
            self._end(target, connection, receive_size, by_client=False),
        )
        try:
            for end in (pair.client, pair.target):
                if (stale := self._ends.get(end.fd)) is not None:
                    # Its number is in use again: it was closed in a way that nobody noticed.
                    self._end_pair(stale.pair, trio.ClosedResourceError("it was closed"))
                self._watch(end)
                self._ends[end.fd] = end
                # Trio lets nobody but those who wait for it know that a socket is being closed.
                close = functools.partial(self._close, pair, end.sock)
                end.sock.close = close  # type: ignore[method-assign]  # until `remove`
        except (OSError, ValueError):
            self.remove(pair)
            raise
        return pair

    def _end(
        self,
        transport: Transport,
        connection: Connection,
        size: int,
        *,
        by_client: bool,
    ) -> End:
        assert transport.socket is not None  # noqa: S101  -- a pumpable transport has one
        sock, packets = transport.socket, transport.keeps_messages
        buffers = self._buffers_of(LARGEST_PACKET + 1 if packets else size)
        outlived, bulk = sock.family == socket.AF_UNIX, _BULK * size
        return End(sock.fileno(), sock, connection, by_client, packets, outlived, bulk, buffers)

    def _buffers_of(self, size: int) -> list[memoryview]:
        if size not in self._buffers:
            self._buffers[size] = [memoryview(mmap.mmap(-1, size))]
        return self._buffers[size]

    def remove(self, pair: Pair) -> None:
        """Pass on nothing more of a pair, before its sockets are closed."""
        for end in (pair.client, pair.target):
            if self._ends.get(end.fd) is end:
                del self._ends[end.fd]
                vars(end.sock).pop("close", None)  # closing it is closing it again
                self._unwatch(end)

    def _close(self, pair: Pair, sock: trio.socket.SocketType) -> None:
        """Close a socket for our own program, and end its pair."""
        self._end_pair(pair, trio.ClosedResourceError("the stream was closed"))
        sock.close()

    def _watch(self, end: End) -> None:
        """Watch an end for what it is to be watched for now."""
        if end.watched == _UNWATCHED:
            self._epoll.register(end.fd, end.events)
        elif end.watched != end.events:
            self._epoll.modify(end.fd, end.events)
        end.watched = end.events

    def _unwatch(self, end: End) -> None:
        if end.watched != _UNWATCHED:
            end.watched = _UNWATCHED
            with contextlib.suppress(OSError, ValueError):  # it was closed already
                self._epoll.unregister(end.fd)

    async def run(self) -> None:
        """Serve the set until cancelled."""
        with self._epoll:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                try:
                    while self._take_turn():  # noqa: ASYNC110  -- nothing would set an event
                        # To wait for what is there already would cost calls of the system.
                        await trio.lowlevel.checkpoint()
                except MemoryError:  # for which sockets were ready; they will be again
                    await trio.sleep(_PAUSE)  # memory sends no event

    def _take_turn(self) -> bool:
        """Serve what is ready for a while; return whether there may be more."""
        now = trio.current_time()
        end = now + _TURN
        while now < end and (events := self._epoll.poll(0, _BATCH)):
            self._serve(events, now)
            now = trio.current_time()
        return now >= end

    def _serve(  # noqa: C901, PLR0912  -- one piece, as in the pump
        self, batch: list[tuple[int, int]], now: float
    ) -> None:
        """Receive once from each socket that has something, and send that to the other.

        All in one piece, as in the pump: under load, this is the program.
        """
        ends, readv, write, data = self._ends, os.readv, os.write, _READ
        buffers: list[memoryview] = []
        last, piece = -1, memoryview(b"")
        for fd, flags in batch:
            try:
                end = ends[fd]
            except KeyError:
                continue  # its pair was ended by what came before in this batch
            try:
                if flags != data and not self._is_to_be_read(end, flags, now):
                    continue
                try:
                    size = readv(fd, end.buffers)
                except BlockingIOError:
                    continue
                if size != last or end.buffers is not buffers:
                    if not size:
                        self._pass_end(end)
                        continue
                    last, buffers = size, end.buffers
                    piece = buffers[0][:size]
                    if size == len(buffers[0]):
                        last = -1  # or the next one would not be looked at
                        if not self._was_whole(end):
                            continue
                connection = end.connection
                connection.progress = now
                try:
                    sent = write(end.sink, piece)
                except BlockingIOError:
                    sent = 0
                except BrokenPipeError as error:
                    self._note_deaf(end.other, error)
                    continue
                if end.by_client:
                    connection.chunks += 1
                    connection.bytes_in += size
                else:
                    connection.bytes_out += sent
                if sent != size:
                    self._hold(end.other, memoryview(bytes(piece[sent:])))
            except (OSError, MemoryError) as error:
                self._end_pair(end.pair, _broken(error))
                if isinstance(error, MemoryError):  # and what it has received is lost
                    raise

    def _is_to_be_read(self, end: End, flags: int, now: float) -> bool:
        """Do what more than arrived bytes ask for; return whether to receive then.

        Raises:
            OSError: the connection broke.
        """
        if end.unsent is not None and flags & ~_READ:
            self._send_rest(end, end.unsent, now)
        if end.pair.over.is_set():
            return False
        if end.events & _READ:
            return bool(flags & ~_WRITE)
        if flags & _BROKEN and not (end.outlived and end.other.unsent is not None):
            raise end.fail()
        if flags & (_BROKEN | _HUNG_UP) and end.unsent is None:
            self._unwatch(end)  # or it would be reported all the time
        return False

    def _was_whole(self, end: End) -> bool:
        """Return whether all of a message was received; enlarge what bytes are received in."""
        if end.packets:
            self._end_pair(end.pair, trio.BrokenResourceError("a message was too long"))
            return False
        connection = end.connection
        passed = connection.bytes_in if end.by_client else connection.bytes_out
        if passed >= _PROVEN and len(end.buffers[0]) < end.bulk:
            end.buffers = self._buffers_of(end.bulk)
        return True

    def _hold(self, end: End, rest: memoryview) -> None:
        """Keep what an end does not take; the other is not read until it has."""
        end.unsent = rest
        end.connection.send_pending = True
        self._watch(end)
        self._watch(end.other)

    def _send_rest(self, end: End, rest: memoryview, now: float) -> None:
        try:
            sent = os.write(end.fd, rest)
        except BlockingIOError:
            return
        except BrokenPipeError as error:
            self._note_deaf(end, error)
            return
        connection = end.connection
        connection.progress = now
        if end.by_client:
            connection.bytes_out += sent
        if sent < len(rest):
            end.unsent = rest[sent:]
            return
        end.unsent = None
        connection.send_pending = end.other.unsent is not None
        self._watch(end)
        if end.other.ended:
            self._shut_down(end)
        else:
            self._watch(end.other)

    def _note_deaf(self, end: End, error: OSError) -> None:
        """Send nothing more to an end, but pass on what it had sent before it closed.

        Raises:
            OSError: that was all, or is lost with it.
        """
        other = end.other
        all_passed = end.ended and other.unsent is None
        if not end.outlived or all_passed or other.deaf is not None:
            raise error
        end.deaf, end.unsent = error, None
        end.connection.send_pending = other.unsent is not None
        self._watch(end)
        self._watch(other)

    def _pass_end(self, end: End) -> None:
        """Note that a socket has ended, and end the other."""
        end.ended = True
        self._watch(end)
        if end.other.unsent is None:
            self._shut_down(end.other)

    def _shut_down(self, end: End) -> None:
        """Send the end that the other has sent, behind everything else."""
        with contextlib.suppress(OSError):  # broken: what arrives next reports that
            end.sock.shutdown(socket.SHUT_WR)
        if end.other.deaf is not None:
            self._end_pair(end.pair, _broken(end.other.deaf))
        elif end.ended and end.unsent is None and end.other.unsent is None:
            end.pair.finished = True
            self._end_pair(end.pair)

    def _end_pair(self, pair: Pair, error: Exception | None = None) -> None:
        """End a pair, of which its task is informed."""
        self.remove(pair)
        pair.error = pair.error or error
        pair.over.set()


def _broken(error: OSError | MemoryError) -> trio.BrokenResourceError:
    broken = trio.BrokenResourceError(str(error))
    broken.__cause__ = error
    return broken


_splicer: Final = OnePerRun(Splicer, "techo splicer")
