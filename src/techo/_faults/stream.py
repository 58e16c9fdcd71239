"""Streams that misbehave: what a conversation sends and receives, gone wrong as planned."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import trio

from techo._faults.messages import HELD_BACK, HeldBack, MessageFaults, lengthened
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

_Ending: TypeAlias = Stall | Truncate | Reset


class FaultEndedError(Exception):
    """A fault has ended the connection, as it should."""


class FaultyStream(trio.abc.Stream):
    """A stream as a conversation uses it: it sends `pieces` of replies, each in its time.

    Nothing that happens depends on how the bytes came in: only on how many replies there
    were, and how many bytes of them were sent before.
    """

    def __init__(
        self, stream: trio.abc.Stream, plan: Plan, sent: Callable[[int], object]
    ) -> None:
        self._stream = stream
        self._plan = plan
        self._sent = sent
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

    def pieces(self, replies: list[bytes]) -> Iterator[bytes]:
        """Give what is sent in place of some replies; each is to be given to `send_all`."""
        for reply in filter(None, replies):
            if self._silent:
                continue
            self._pause += self._delay()
            make = self._stream_pieces if self._messages is None else self._message_pieces
            for piece in make(reply):
                yield piece
                self._plan.offset += len(piece)

    def _delay(self) -> float:
        seconds = 0.0
        for delay, chance in self._plan.all_of(Delay):
            extra = chance.uniform(-delay.jitter, delay.jitter)
            if self._plan.offset >= delay.offset:
                self._plan.note(delay)
                seconds += max(0.0, delay.seconds + extra)
        return seconds

    def _stream_pieces(self, reply: bytes) -> Iterator[bytes]:
        rest = lengthened(self._plan, reply)
        for corruption in self._corruptions:
            rest = corruption.apply(rest, self._plan)
        while rest:
            size = self._size_of_piece(len(rest))
            yield rest[:size]  # nothing means the ending, see send_all
            rest = rest[size:]
            self._pause_after(size)

    def _size_of_piece(self, rest: int) -> int:
        plan = self._plan
        sizes = [rest]
        for chunk, chance in plan.all_of(Chunk):
            if plan.offset >= chunk.offset:
                plan.note(chunk)
                sizes.append(chance.randint(chunk.least, chunk.most))
        sizes += [
            max(1, throttle.bytes_per_second // _STEPS)
            for throttle, _ in plan.all_of(Throttle)
            if plan.offset >= throttle.offset
        ]
        if self._ending is not None:
            sizes.append(max(0, _place(self._ending) - plan.offset))
        return min(sizes)

    def _pause_after(self, size: int) -> None:
        for throttle, _ in self._plan.all_of(Throttle):
            if self._plan.offset >= throttle.offset:
                self._plan.note(throttle)
                self._pause += size / throttle.bytes_per_second

    def _message_pieces(self, reply: bytes) -> Iterator[bytes]:
        assert self._messages is not None  # noqa: S101  -- called for messages only
        if self._ending is not None and self._plan.offset >= _place(self._ending):
            yield b""
        fate = self._messages.fate(reply)
        if fate.depth and self._held_back.add(fate.copies, fate.depth):
            return
        for copies in (fate.copies, *(self._held_back.after_one_more() if fate.copies else ())):
            for copy in copies:
                yield copy
                self._pause_after(len(copy))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send one of the `pieces` when its time has come; nothing stands for the ending.

        Raises:
            FaultEndedError: that was the end.
        """
        pause, self._pause = self._pause, 0.0
        if pause:
            await trio.sleep(pause)
        if data:
            await self._stream.send_all(data)
        elif self._ending is not None:
            await self._end(self._ending)

    async def _end(self, ending: _Ending) -> None:
        self._plan.note(ending)
        if isinstance(ending, Stall):
            await trio.sleep_forever()
        if isinstance(ending, Reset):
            await reset(self._stream)
        raise FaultEndedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive, unless that is not to be; what was held back too long is sent meanwhile."""
        if (never := self._plan.first(NeverRead)) is not None:
            self._plan.note(never)
            await trio.sleep_forever()
        if self._held_back:
            with trio.move_on_after(HELD_BACK):
                if data := await self._stream.receive_some(max_bytes):
                    return data
            for copies in self._held_back.all():
                for copy in copies:
                    await self._stream.send_all(copy)
                    self._sent(len(copy))
                    self._plan.offset += len(copy)
        data = await self._stream.receive_some(max_bytes)
        if not data and (ignore := self._plan.first(IgnoreEnd)) is not None:
            self._plan.note(ignore)
            await trio.sleep_forever()
        return data

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
