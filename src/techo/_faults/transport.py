"""Transports that misbehave: what is sent to a peer and received from it, gone wrong.

What is sent comes from a source. In an echo that is the peer itself, so that source and sink
are one; in a proxy it is the transport at the other end.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator
from typing import Final, Protocol, TypeAlias

import attrs
import trio

from techo._faults.messages import MOST_WAITING, RECORD, HeldBack, MessageFaults, lengthened
from techo._faults.plan import Corruption, Plan
from techo._faults.values import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    Fault,
    HalfCloseFirst,
    IgnoreEnd,
    NeverRead,
    NoCloseNotify,
    Reset,
    SlowAccept,
    SlowClose,
    Stall,
    Throttle,
    Truncate,
)
from techo._transport.transport import RECEIVE_SIZE, Transport

_STEPS: Final = 20
"""Pieces that a second's worth of a throttled reply is sent in."""

_PIECE: Final = 2**15
"""Bytes sent at a time, as without faults, so that a slow reader is seen to read."""

_Ending: TypeAlias = Stall | Truncate | Reset

ENDING: Final = memoryview(b"")
"""Stands among the pieces for what ends them; known by its identity."""


class Watched(Protocol):
    """The record of what is sent to a peer, which counts its bytes and limits its waits."""

    send_pending: bool
    """Whether a reply is on its way out."""

    def sent(self, size: int) -> None:
        """Count bytes of a reply that were sent."""

    def end_wait_when_draining(self) -> None:
        """Let a drain end the present wait at once, because nothing comes of it."""


@attrs.frozen(eq=False)
class FaultEndedError(Exception):
    """A fault has ended the connection, as it should."""

    fault: Fault


class FaultyTransport(Transport):
    """A transport as a conversation uses it: it sends `pieces` of replies, each in its time.

    Over streams nothing that happens depends on how the bytes came in, but for what happens to
    each reply, such as `Delay` and `Lengthen`: only on how many bytes were sent before.
    """

    def __init__(self, below: Transport, plan: Plan, connection: Watched) -> None:
        self.keeps_messages = below.keeps_messages
        self.half_closeable = below.half_closeable
        self.secure = below.secure
        self.socket = below.socket
        self.source: FaultyTransport | None = None
        """Where what is sent comes from; None for the peer itself, as in an echo."""
        self.ended_by: Fault | None = None
        """The fault that has ended it, whose consequences another task may notice first."""
        self._below = below
        self._connection = connection
        self._held_back = HeldBack[tuple[bytes, ...]]()
        self._pause = 0.0
        self._go_on_at = -math.inf
        """When the next piece may leave."""
        self._silent = False
        self._delays = False
        """Whether what comes waits for its time, once a `Delay` was planned."""
        self._ahead = trio.Event()
        """Set when it is received before that."""
        self._arrived = collections.deque[tuple[float, bytes | bytearray | None]]()
        """What is answered later, each with when it came; None is the end."""
        self._waiting = 0
        """Bytes of it."""
        self._due: float | None = None
        """When the first is answered, once that is known."""
        self._failure: Exception | None = None
        self._changed = trio.Event()
        self._begins = False
        """Whether what happens in the beginning is to happen now."""
        self._receiving: trio.CancelScope | None = None
        self._planned_anew = trio.Event()
        self._follow(plan)

    def _follow(self, plan: Plan) -> None:
        self._plan = plan
        self._corruptions = [Corruption(*each) for each in plan.all_of(Corrupt)]
        self._messages = MessageFaults(plan) if self.keeps_messages else None
        endings = [fault for fault, _ in plan.chosen if isinstance(fault, _Ending)]
        if self._messages:
            endings = [fault for fault in endings if isinstance(fault, Stall)]
        self._ending = min(endings, key=_place, default=None)
        if plan.all_of(Delay) and not self._delays:
            self._delays = True
            self.fed_at = -math.inf

    def plan_anew(self, plan: Plan) -> None:
        """Let another plan happen from now on; what waits because of the old one goes on."""
        self._follow(plan)
        self._begins = True
        self._due = None
        self._note_change()
        self._planned_anew.set()
        self._planned_anew = trio.Event()
        if self._receiving is not None:
            self._receiving.cancel(reason="planned anew")

    async def begin(self) -> None:
        """Do what happens before anything is received.

        Raises:
            FaultEndedError: it is over already.
        """
        await trio.lowlevel.checkpoint()
        self._begins = False
        if (unread := self._plan.first(CloseUnread)) is not None:
            self._plan.note(unread)
            self.ended_by = unread
            await self._below.aclose()
            raise FaultEndedError(unread)
        if isinstance(self._ending, Reset) and not _place(self._ending):
            await self._end(self._ending)
        if (first := self._plan.first(HalfCloseFirst)) is not None:
            self._plan.note(first)
            self._silent = True
            if self.half_closeable:
                await self._below.send_eof()

    def pieces(self, replies: list[bytes]) -> Iterator[bytes | memoryview]:
        """Yield what is sent in place of some replies; each is to be given to `send`."""
        for reply in filter(None, replies):
            if self._silent:
                continue
            make = self._stream_pieces if self._messages is None else self._message_pieces
            for piece in make(reply):
                plan = self._plan
                yield piece
                if piece is not ENDING:
                    plan.offset += len(piece)
                    if self._plan is not plan:  # what is planned now has not happened to it
                        self._plan.sent_before += len(piece)
                    self._pause_after(len(piece))
            if self._is_over():
                yield ENDING

    def delay(self) -> float:
        """Return how many seconds after what it answers the next reply leaves."""
        seconds = 0.0
        for delay, chance in self._plan.all_of(Delay):
            extra = chance.uniform(-delay.jitter, delay.jitter)
            if self._plan.offset >= delay.offset:
                self._plan.note(delay)
                seconds += max(0.0, delay.seconds + extra)
        return seconds

    def _stream_pieces(self, reply: bytes) -> Iterator[bytes | memoryview]:
        rest = memoryview(lengthened(self._plan, reply))
        while rest:
            if self._is_over():
                yield ENDING
                continue  # there is another plan
            piece = bytes(rest[: self._size_of_piece()])
            rest = rest[len(piece) :]
            for corruption in self._corruptions:
                piece = corruption.apply(piece, self._plan)
            yield piece

    def _is_over(self) -> bool:
        return self._ending is not None and self._plan.offset >= _place(self._ending)

    def _size_of_piece(self) -> int:
        offset = self._plan.offset
        sizes = [_PIECE]
        for chunk, chance in self._plan.all_of(Chunk):
            if offset >= chunk.offset:
                self._plan.note(chunk)
                sizes.append(chance.randint(chunk.least, chunk.most))
        for throttle, _ in self._plan.all_of(Throttle):
            if offset >= throttle.offset:
                sizes.append(max(1, throttle.bytes_per_second // _STEPS))
        begins = [fault.offset for fault, _ in self._plan.chosen]
        if self._ending is not None:
            begins.append(_place(self._ending))
        sizes += [begin - offset for begin in begins if begin > offset]
        return min(sizes)

    def _pause_after(self, size: int) -> None:
        for throttle, _ in self._plan.all_of(Throttle):
            if self._plan.offset - size >= throttle.offset:
                self._plan.note(throttle)
                self._pause += size / throttle.bytes_per_second

    def _message_pieces(self, reply: bytes) -> Iterator[bytes | memoryview]:
        while self._is_over():
            yield ENDING
        assert self._messages is not None  # noqa: S101  -- called for messages only
        fate = self._messages.fate(reply)
        if fate.depth and self._held_back.add(fate.copies, fate.depth, len(reply)):
            return
        yield from fate.copies
        if fate.copies:
            for copies in self._held_back.after_one_more():
                yield from copies

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send one of the `pieces` when its time has come.

        Raises:
            FaultEndedError: it was the `ENDING`.
        """
        if self._pause:  # which a sender that is cancelled and tries again does not spare
            self._go_on_at, self._pause = trio.current_time() + self._pause, 0.0
        if self._go_on_at > trio.current_time():
            await trio.sleep_until(self._go_on_at)
        if data is ENDING and self._ending is not None:
            await self._end(self._ending)
        elif data:
            await self._below.send(data)

    async def _end(self, ending: _Ending) -> None:
        self._plan.note(ending)
        if isinstance(ending, Stall):
            self._connection.end_wait_when_draining()
            await self._planned_anew.wait()
            return
        self.ended_by = ending
        if isinstance(ending, Reset):
            await self._below.reset()
        raise FaultEndedError(ending)

    async def take(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        """Receive from the peer at once, unless a fault prevents it."""
        while (never := self._plan.first(NeverRead)) is not None:
            self._plan.note(never)
            await self._planned_anew.wait()
        return await self._below.receive(most)

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes | bytearray | None:
        """Receive what is to be sent to the peer next; None if the source has finished.

        What was held back too long is sent meanwhile.
        """
        while True:
            if self._begins:
                await self.begin()
            with trio.move_on_at(self._held_back.deadline) as scope:
                self._receiving = scope
                if self._delays:
                    self._ahead.set()
                source = self.source or self
                data = await (self._receive_in_time() if self._delays else source.take(most))
            self._receiving = None
            if not scope.cancelled_caught:
                break
            await self._send_held_back(self._held_back.expired(trio.current_time()))
        if data is None:
            await self.flush()
            await (self.source or self).heed_end()
        return data

    async def heed_end(self) -> None:
        """Return once the end of the peer, which has finished, is to have a consequence."""
        while (ignore := self._plan.first(IgnoreEnd)) is not None:
            self._plan.note(ignore)
            await self._planned_anew.wait()

    async def read_ahead(self, most: int) -> None:
        """Receive what comes while earlier replies wait for their time; to run beside it all.

        Each reply leaves when it arrived plus its delay, however many there are.
        """
        await self._ahead.wait()
        try:
            data: bytes | bytearray | None = b""
            while data is not None:
                data = await (self.source or self).take(most)
                self.fed_at = trio.current_time()
                self._arrived.append((self.fed_at, data))
                self._waiting += len(data or b"") + RECORD
                self._note_change()
                while self._waiting > MOST_WAITING:
                    await self._changed.wait()
        except Exception as error:  # noqa: BLE001  -- raised by `receive`
            self._failure = error
            self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _receive_in_time(self) -> bytes | bytearray | None:
        """Return what arrived first, when it is time to answer it; the end has no delay."""
        while True:
            if self._failure is not None:
                raise self._failure
            if self._arrived and self._due is None:
                at, data = self._arrived[0]
                self._due = at if data is None else at + self.delay()
            self._connection.send_pending = self._due is not None
            due = math.inf if self._due is None else self._due
            if due <= trio.current_time():
                break
            with trio.move_on_at(due):
                await self._changed.wait()
        await trio.lowlevel.checkpoint()
        _, data = self._arrived.popleft()
        self._waiting -= len(data or b"") + RECORD
        self._due = None
        self._connection.send_pending = bool(self._arrived)
        self._note_change()
        return data

    async def flush(self) -> None:
        """Send what is held back, because nothing comes after it."""
        await self._send_held_back(self._held_back.all())

    async def _send_held_back(self, held_back: Iterator[tuple[bytes, ...]]) -> None:
        for copies in held_back:
            for copy in copies:
                await self._below.send(copy)
                self._connection.sent(len(copy))
                self._plan.offset += len(copy)

    async def finish(self) -> None:
        """Do what happens at the end: close late, or over TLS without close_notify."""
        if (slow := self._plan.first(SlowClose)) is not None:
            self._plan.note(slow)
            await trio.sleep(slow.seconds)  # the fault itself
        silent = self._plan.first(NoCloseNotify)
        if silent is not None and self.secure:
            self._plan.note(silent)
            await trio.aclose_forcefully(self._below)

    async def send_eof(self) -> None:
        """Do what the transport below does."""
        await self._below.send_eof()

    async def aclose(self) -> None:
        """Close the transport below."""
        await self._below.aclose()


async def accept_slowly(plan: Plan) -> None:
    """Let nothing happen for the time of a `SlowAccept`, if one is planned."""
    await trio.lowlevel.checkpoint()
    if (slow := plan.first(SlowAccept)) is not None:
        plan.note(slow)
        await trio.sleep(slow.seconds)  # the fault itself


def _place(ending: _Ending) -> int:
    return max(ending.after, ending.offset)
