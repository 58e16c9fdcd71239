"""The pump: talks for all connections of a run, so that a message need not wake a task.

The server answers through it; the load client asks, its next message being its reply to one.

What trio spends on a small message is mostly parking and waking a task for it. Here every
connection keeps its task, parked inside its cancel scope, while one task of the run receives,
replies and sends for all whose sockets are ready. A task is woken when its conversation is over
or its time is up; nurseries and cancel scopes work as in any trio handler.

What may run in a turn of the pump: nothing that waits, nothing that raises. One epoll set holds
the sockets, edge triggered: an event is good for one exchange, and `_look_again` asks for
another where one may not have been enough (see epoll(7)). A reply that a socket would not take
whole is kept, and until it is gone nothing else is said there: nothing more is buffered. A
server does not read that socket meanwhile, a client (`Talk.greedy`) does.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
from typing import Final

import attrs
import trio

from techo._pump.talk import Talk

AVAILABLE = hasattr(select, "epoll")
"""Whether this system has what a pump needs (Linux). Tests and benchmarks switch it off."""

_TURN: Final = 0.0005
"""Seconds that the pump goes on before other tasks get their turn: a hundred times what one
message takes, and little to wait for."""

_BATCH: Final = 256
"""Sockets taken from the kernel at once: enough to make the call cheap, and few enough not to
make a turn much longer than it should be."""

_BULK: Final = 4
"""Times the receive size that are received at once from a peer which has shown, by reading
`_PROVEN` bytes, that it takes what it asks for; only for `raw`, whose chunks nobody can tell
apart. Without this, large messages cost a quarter more."""

_PROVEN: Final = 2**20
"""Bytes: more than the kernel's buffers hold for a peer that never reads."""

_COARSE: Final = 0.001
"""Seconds by which trio may wake up too late."""

_SLACK: Final = 0.00006
"""Seconds by which the kernel may (PR_SET_TIMERSLACK(2const): 50 microseconds), and a bit."""

_SELECTABLE: Final = 1024
"""The first descriptor that select(2) does not know."""

if AVAILABLE:
    _READ: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
    _WRITE: Final = select.EPOLLOUT
    _DATA: Final = select.EPOLLIN
    """What an event says when there is just data: no end, no error."""


@attrs.define(eq=False)
class Pump:
    """The epoll set of one trio run, and the task that serves it until the run ends."""

    _epoll: select.epoll = attrs.field(
        factory=lambda: select.epoll()  # noqa: PLW0108  -- not every system has it
    )
    _talks: dict[int, Talk] = attrs.field(factory=dict)
    _buffers: dict[tuple[int, bool], list[memoryview]] = attrs.field(factory=dict)

    def buffers(self, size: int, *, packets: bool = False) -> list[memoryview]:
        """Give the buffer for chunks of `size` bytes, the same to all who ask for such."""
        if (size, packets) not in self._buffers:
            # Whole pages: 16 bytes into one, which is where malloc puts what is this large, a
            # copy costs four times as much on processors that are known for it (AMD's Zen).
            self._buffers[size, packets] = [memoryview(mmap.mmap(-1, size))]
        return self._buffers[size, packets]

    def add(self, talk: Talk) -> None:
        """Talk for a connection from now on; what has arrived already is answered at once."""
        if talk.fd in self._talks:
            # The number is in use again, so whoever had it closed the socket under our hands.
            self._end(self._talks[talk.fd], trio.ClosedResourceError("the stream was closed"))
        self._talks[talk.fd] = talk
        self._epoll.register(talk.fd, _READ)
        self._serve([(talk.fd, _DATA)], trio.current_time())

    def send(self, talk: Talk, data: bytes) -> None:
        """Say something unasked; what the socket would not take is sent when it does.

        Only while the talk is not over and nothing of it is unsent.
        """
        try:
            sent = os.write(talk.fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(talk, _broken(error))
            return
        talk.connection.bytes_out += sent
        if sent != len(data):
            self._hold(talk, memoryview(data[sent:]))

    def remove(self, talk: Talk) -> None:
        """Let go of a socket, before it is closed."""
        if self._talks.get(talk.fd) is talk:
            del self._talks[talk.fd]
            try:
                self._epoll.unregister(talk.fd)
            except OSError:
                return  # somebody else has closed it already

    async def sleep_until(self, due: float) -> None:
        """Sleep until `due`, in the run's clock, more exactly than `trio.sleep_until`.

        Trio's timeouts are whole milliseconds (epoll_wait(2)), rounded up. What is less is
        waited for here, where nothing else of the run happens but what the pump is for, and
        the very last of it without sleeping.
        """
        await trio.sleep_until(due - _COARSE)
        number = self._epoll.fileno()
        watched = [number] if number < _SELECTABLE else []
        while (rest := due - trio.current_time()) > 0:
            if select.select(watched, [], [], max(0.0, rest - _SLACK))[0]:
                await trio.lowlevel.checkpoint()

    @classmethod
    def of_this_run(cls) -> Pump:
        """Give the pump of the present trio run, which is started if there is none yet."""
        try:
            return _pump.get()
        except LookupError:
            pump = cls()
            _pump.set(pump)
            trio.lowlevel.spawn_system_task(pump.run, name="techo pump")
            return pump

    async def run(self) -> None:
        """Serve the set until cancelled."""
        with self._epoll:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                now = trio.current_time()
                end = now + _TURN
                while now < end and (events := self._epoll.poll(0, _BATCH)):
                    self._serve(events, now)
                    now = trio.current_time()

    def _serve(  # noqa: C901, PLR0912, PLR0915  -- see below
        self, events: list[tuple[int, int]], now: float
    ) -> None:
        """Receive, reply and send once for each socket that has something.

        All in one piece, without a call that is not needed: under load, this is the program.
        """
        talks, readv, write, data = self._talks, os.readv, os.write, _DATA
        buffers: list[memoryview] = []
        last, most, piece = 0, 0, memoryview(b"")
        for fd, flags in events:
            try:
                talk = talks[fd]
            except KeyError:
                continue  # a reply function has just ended it
            try:
                if flags != data and talk.unsent is not None:
                    self._send_rest(talk, talk.unsent, now)
                    if talk.over or not talk.greedy:
                        continue
                try:
                    size = readv(fd, talk.buffers)
                except BlockingIOError:
                    continue
                except OSError as error:
                    self._end(talk, _broken(error))
                    continue
                if not size and not talk.endless:
                    self._end(talk)
                    continue
                connection = talk.connection
                connection.chunks += 1
                connection.bytes_in += size
                connection.progress = now
                if size != last or talk.buffers is not buffers:
                    last, buffers = size, talk.buffers
                    most, piece = len(buffers[0]), buffers[0][:size]
                    if talk.packets:
                        if size == most:
                            last = 0  # or the next one would not be looked at
                            self._end(talk, _broken(OSError("a message was too long")))
                            continue
                        most = 0
                answer: bytes | memoryview = piece
                if talk.reply is None:
                    length = size
                else:
                    answer = talk.reply(bytes(piece))
                    length = len(answer)
                if length:  # or it would be an end, where messages are kept apart
                    try:
                        sent = write(fd, answer)
                    except BlockingIOError:
                        sent = 0
                    except OSError as error:
                        self._end(talk, _broken(error))
                        continue
                    connection.bytes_out += sent
                    if sent != length:
                        self._hold(talk, memoryview(bytes(answer[sent:])))
                        continue
                if size >= most or flags != data:
                    self._look_again(talk)
            except BaseException as error:  # noqa: BLE001, ASYNC103  -- raised by the task
                self._end(talk, error)

    def _look_again(self, talk: Talk) -> None:
        """Ask for another event, because one exchange may not have taken everything."""
        if talk.unsent is not None:
            self._epoll.modify(talk.fd, _READ | _WRITE)
            return
        if talk.reply is None and talk.connection.bytes_out >= _PROVEN:
            talk.buffers = self.buffers(_BULK * talk.receive_size)
        self._epoll.modify(talk.fd, _READ)

    def _hold(self, talk: Talk, rest: memoryview) -> None:
        """Keep the rest of a reply until it can be sent; only who is greedy reads meanwhile."""
        if talk.unsent is None:
            talk.connection.owing = True
            self._epoll.modify(talk.fd, _READ | _WRITE if talk.greedy else _WRITE)
        talk.unsent = rest

    def _send_rest(self, talk: Talk, rest: memoryview, now: float) -> None:
        try:
            sent = os.write(talk.fd, rest)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(talk, _broken(error))
            return
        talk.connection.bytes_out += sent
        talk.connection.progress = now
        if sent < len(rest):
            self._hold(talk, rest[sent:])
            return
        talk.unsent = None
        talk.connection.owing = False
        self._epoll.modify(talk.fd, _READ)

    def _end(self, talk: Talk, error: BaseException | None = None) -> None:
        """Give the conversation back to its task, which raises the error if there is one."""
        self.remove(talk)
        talk.over, talk.error = True, error
        if talk.task is not None:
            trio.lowlevel.reschedule(talk.task)
            talk.task = None


_pump: Final = trio.lowlevel.RunVar[Pump]("techo pump")


def _broken(error: OSError) -> Exception:
    if error.errno == errno.EMSGSIZE:
        return error  # not the peer's doing: the reply is longer than a message may be
    broken = trio.BrokenResourceError(str(error))
    broken.__cause__ = error
    return broken
