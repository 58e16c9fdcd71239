"""Streams that misbehave: what a conversation sends and receives, gone wrong as planned."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any, Final, Protocol, TypeAlias

import trio

from techo._faults.messages import HeldBack, MessageFaults, lengthened
from techo._faults.plan import Corruption, Plan
from techo._faults.values import (
    Chunk,
    CloseUnread,
    Corrupt,
    Delay,
    HalfCloseFirst,
    IgnoreEnd,
    NeverRead,
    NoCloseNotify,
    Reset,
    SlowClose,
    Stall,
    Throttle,
    Truncate,
)
from techo._memory.stream import MemoryStream
from techo._packets import PacketStream

_STEPS: Final = 20
"""Pieces that a second's worth of a throttled reply is sent in."""

_PIECE: Final = 2**15
"""Bytes sent at a time, as without faults, so that a slow reader is seen to read."""

_Ending: TypeAlias = Stall | Truncate | Reset

ENDING: Final = memoryview(b"")
"""Stands among the pieces for what ends them; known by its identity."""


class Watched(Protocol):
    """What is told of a connection, which counts and watches over it."""

    def sent(self, size: int) -> None:
        """Count bytes of a reply that were sent."""

    def let_go_when_draining(self) -> None:
        """Let a drain end the present wait at once, because nothing comes of it."""


class FaultEndedError(Exception):
    """A fault has ended the connection, as it should."""


class FaultyStream(trio.abc.Stream):
    """A stream as a conversation uses it: it sends `pieces` of replies, each in its time.

    Over streams nothing that happens depends on how the bytes came in, but for what happens to
    each reply, such as `Delay` and `Lengthen`: only on how many bytes were sent before.
    """

    def __init__(self, stream: trio.abc.Stream, plan: Plan, connection: Watched) -> None:
        self._stream = stream
        self._plan = plan
        self._connection = connection
        self._corruptions = [Corruption(*each) for each in plan.all_of(Corrupt)]
        self._messages = MessageFaults(plan) if isinstance(stream, PacketStream) else None
        self._held_back = HeldBack[tuple[bytes, ...]]()
        endings = [fault for fault, _ in plan.chosen if isinstance(fault, _Ending)]
        if self._messages:
            endings = [fault for fault in endings if isinstance(fault, Stall)]
        self._ending = min(endings, key=_place, default=None)
        self._pause = 0.0
        self._silent = False

    async def begin(self) -> None:
        """Do what happens before anything is received.

        Raises:
            FaultEndedError: it is over already.
        """
        await trio.lowlevel.checkpoint()
        if (unread := self._plan.first(CloseUnread)) is not None:
            self._plan.note(unread)
            await self._stream.aclose()
            raise FaultEndedError
        if isinstance(self._ending, Reset) and not _place(self._ending):
            await self._end(self._ending)
        if (first := self._plan.first(HalfCloseFirst)) is not None:
            self._plan.note(first)
            self._silent = True
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()

    def pieces(self, replies: list[bytes]) -> Iterator[bytes | memoryview]:
        """Give what is sent in place of some replies; each is to be given to `send_all`."""
        for reply in filter(None, replies):
            if self._silent:
                continue
            self._pause += self._delay()
            make = self._stream_pieces if self._messages is None else self._message_pieces
            for piece in make(reply):
                yield piece
                self._plan.offset += len(piece)
                self._pause_after(len(piece))
            if self._is_over():
                yield ENDING

    def _delay(self) -> float:
        seconds = 0.0
        for delay, chance in self._plan.all_of(Delay):
            extra = chance.uniform(-delay.jitter, delay.jitter)
            if self._plan.offset >= delay.offset:
                self._plan.note(delay)
                seconds += max(0.0, delay.seconds + extra)
        return seconds

    def _stream_pieces(self, reply: bytes) -> Iterator[bytes]:
        rest = memoryview(lengthened(self._plan, reply))
        while rest and not self._is_over():
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

    def _message_pieces(self, reply: bytes) -> Iterator[bytes]:
        assert self._messages is not None  # noqa: S101  -- called for messages only
        if self._is_over():
            return
        fate = self._messages.fate(reply)
        if fate.depth and self._held_back.add(fate.copies, fate.depth, len(reply)):
            return
        yield from fate.copies
        if fate.copies:
            for copies in self._held_back.after_one_more():
                yield from copies

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send one of the `pieces` when its time has come.

        Raises:
            FaultEndedError: it was the `ENDING`.
        """
        pause, self._pause = self._pause, 0.0
        if pause:
            await trio.sleep(pause)
        if data is ENDING and self._ending is not None:
            await self._end(self._ending)
        elif data:
            await self._stream.send_all(data)

    async def _end(self, ending: _Ending) -> None:
        self._plan.note(ending)
        if isinstance(ending, Stall):
            self._connection.let_go_when_draining()
            await trio.sleep_forever()
        if isinstance(ending, Reset):
            await reset(self._stream)
        raise FaultEndedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, unless that is not to be; what was held back too long is sent meanwhile."""
        if (never := self._plan.first(NeverRead)) is not None:
            self._plan.note(never)
            await trio.sleep_forever()
        while True:
            with trio.move_on_at(self._held_back.deadline) as scope:
                data = await self._stream.receive_some(max_bytes)
            if not scope.cancelled_caught:
                break
            await self._send_held_back(self._held_back.expired(trio.current_time()))
        if not data:
            await self.flush()
        if not data and (ignore := self._plan.first(IgnoreEnd)) is not None:
            self._plan.note(ignore)
            await trio.sleep_forever()
        return data

    async def flush(self) -> None:
        """Send what is held back, because nothing comes after it."""
        await self._send_held_back(self._held_back.all())

    async def _send_held_back(self, held_back: Iterator[tuple[bytes, ...]]) -> None:
        for copies in held_back:
            for copy in copies:
                await self._stream.send_all(copy)
                self._connection.sent(len(copy))
                self._plan.offset += len(copy)

    async def finish(self) -> None:
        """Do what happens when all is said: close late, or without a word."""
        if (slow := self._plan.first(SlowClose)) is not None:
            self._plan.note(slow)
            await trio.sleep(slow.seconds)
        silent = self._plan.first(NoCloseNotify)
        if silent is not None and isinstance(self._stream, trio.SSLStream):
            self._plan.note(silent)
            await self._stream.transport_stream.aclose()

    async def wait_send_all_might_not_block(self) -> None:
        """See the stream itself."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream itself."""
        await self._stream.aclose()


def _place(ending: _Ending) -> int:
    return max(ending.after, ending.offset)


async def reset(stream: trio.abc.Stream | trio.SSLStream[Any]) -> None:
    """Break a connection so that what is under way is lost; only TCP and memory know that."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, MemoryStream):
        stream.reset()
    elif isinstance(stream, trio.SocketStream):
        linger = struct.pack("ii", 1, 0)  # for no time at all: see socket(7)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    await trio.aclose_forcefully(stream)
