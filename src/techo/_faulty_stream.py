"""Faulty streams: any trio stream of one's own, with what is sent and received going wrong."""

from __future__ import annotations

import collections
import contextlib
import operator
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, overload

import attrs
import trio

from techo._embedded import transport_of
from techo._faults.plan import Plan, Planner, check_applicable
from techo._faults.transport import FaultEndedError, FaultyTransport
from techo._faults.values import (
    FAULTS,
    Delay,
    Fault,
    FaultEvent,
    IgnoreEnd,
    NeverRead,
    Refuse,
    Reset,
    SlowAccept,
    Truncate,
)
from techo._nursery import open_bare_nursery
from techo._transport.transport import RECEIVE_SIZE, Transport
from techo._validation import Requirement

_ROOM: Final = 2**16
"""Bytes that can be sent to a peer that never reads, as into the buffers of a system."""

_STREAM: Final = Requirement(
    "a trio.abc.Stream", lambda value: isinstance(value, trio.abc.Stream)
)


@attrs.define(eq=False)
class _Unlimited:
    """The record of a direction that nothing counts or limits."""

    send_pending: bool = False

    def sent(self, size: int) -> None:
        """Count nothing."""

    def end_wait_when_draining(self) -> None:
        """Do nothing: nothing drains."""


class _Inbox(Transport):
    """What the user of a faulty stream is to receive next."""

    def __init__(self) -> None:
        self.pieces = collections.deque[bytes]()
        self.ended = False

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.take(most)

    def take(self, most: int) -> bytes:
        """Return up to `most` bytes of the first piece that is there; none are the end."""
        if not self.pieces:
            return b""
        data = self.pieces.popleft()
        if len(data) > most:
            self.pieces.appendleft(data[most:])
        return data[:most]

    async def send_eof(self) -> None:
        self.ended = True

    async def aclose(self) -> None:
        self.ended = True

    async def reset(self) -> None:
        self.pieces.clear()


class FaultyStream(trio.abc.Stream):
    """A stream over another, which it owns, with faults; `faulty` makes one."""

    def __init__(self, stream: trio.abc.Stream, sent: Planner, received: Planner) -> None:
        self._stream = stream
        self._below = transport_of(stream)
        self._planners = sent, received
        self._created = trio.current_time()
        self._sent, self._received = sent.next(), received.next()
        self._inbox = _Inbox()
        self._to_peer = FaultyTransport(self._below, self._sent, _Unlimited())
        self._to_user = FaultyTransport(self._inbox, self._received, _Unlimited())
        self._to_user.source, self._to_peer.source = self._to_peer, self._to_user
        self._busy: dict[str, trio.CancelScope] = {}
        """What ends the wait of each task that uses it, by what that does."""
        self._pending: Iterator[bytes | memoryview] = iter(())
        self._piece: bytes | memoryview | None = None
        """What the user is to receive next, while that has to wait."""
        self._misbehaves = bool(self._sent.chosen or self._received.chosen)
        self._begun = self._finished = self._closed = False
        self._cut = False
        """Whether a fault has ended what is sent."""
        self._left = False
        """Whether the peer has closed its end, by a fault."""
        self._broken = False
        """Whether a fault has broken the connection."""
        self._unread = 0
        """Bytes that were sent to a peer that never reads."""
        self._waited_for = set[int]()

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """What went wrong with what was sent, the latest last."""
        return tuple(self._planners[0].events)

    @property
    def received_history(self) -> tuple[FaultEvent, ...]:
        """What went wrong with what was received, likewise."""
        return tuple(self._planners[1].events)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it, as `trio.abc.SendStream.send_all`, but for the faults.

        After a `Truncate` the rest is lost, which nothing reports, as where a network loses it.
        """
        async with self._using("send"):
            await self._begin_to_send()
            if await self._loses(data):
                return
            if self._sent.chosen:
                await self._send(bytes(data))
            else:
                await self._stream.send_all(data)

    async def _send(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if seconds := self._to_peer.delay():
            await trio.sleep(seconds)
        try:
            for piece in self._to_peer.pieces([data]):
                await self._to_peer.send(piece)
        except FaultEndedError as error:
            if not isinstance(error.fault, Truncate):
                raise
            self._cut = True
            below = self._below
            await (below.send_eof if below.half_closeable else below.aclose)()

    async def _loses(self, data: bytes | bytearray | memoryview) -> bool:
        """Return whether nobody gets what is sent; wait for ever once there is no room."""
        if (never := self._received.first(NeverRead)) is not None:
            self._note_once(self._received, never)
            self._unread += len(data)
            if self._unread > _ROOM:
                await trio.sleep_forever()
        if self._cut or never is not None:
            await trio.lowlevel.checkpoint()
            return True
        return False

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for the stream below."""
        async with self._using("send"):
            await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive as `trio.abc.ReceiveStream.receive_some`, but for the faults.

        Cancellation loses nothing.
        """
        data: bytes | bytearray = b""
        async with self._using("receive"):
            if self._misbehaves:
                data = await self._receive_some(max_bytes)
            else:
                data = await self._stream.receive_some(max_bytes)
        return data

    async def _receive_some(self, max_bytes: int | None) -> bytes:
        most = RECEIVE_SIZE if max_bytes is None else operator.index(max_bytes)
        if most < 1:
            raise ValueError(f"max_bytes {max_bytes} is not a whole number from 1, or None")
        await trio.lowlevel.checkpoint()
        await self._begin(self._sent, self._received)
        while not (self._inbox.pieces or self._inbox.ended):
            await self._fetch(most)
        return self._inbox.take(most)

    async def _fetch(self, most: int) -> None:
        """Do the next thing with what comes: receive it, let it wait, or pass it on."""
        if self._piece is None:
            self._piece = next(self._pending, None)
        if self._piece is not None:
            try:
                await self._to_user.send(self._piece)
            except FaultEndedError as error:
                if not isinstance(error.fault, Truncate):
                    raise
                self._inbox.ended = True
            self._piece = None
        elif (data := await self._receive(most)) is None:
            await self._to_user.finish()
            self._inbox.ended = True
        else:
            self._pending = self._to_user.pieces([bytes(data)])

    async def _receive(self, most: int) -> bytes | bytearray | None:
        if self._received.first(Delay) is None:
            return await self._to_user.receive(most)
        # What comes while the first waits for its time is not to wait for that one's as well.
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._to_user.read_ahead, most)
            data = await self._to_user.receive(most)
            nursery.cancel_scope.cancel(reason="it has come")
        return data

    async def aclose(self) -> None:
        """Close it, late if that is planned; what waits elsewhere ends at once."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        for scope in self._busy.values():
            scope.cancel(reason="the stream was closed")
        try:
            if not self._broken:
                await self._finish()
        except trio.Cancelled:
            await trio.aclose_forcefully(self._stream)  # noqa: ASYNC102  -- waits for nothing
            raise
        await self._stream.aclose()

    async def _finish(self) -> None:
        """Let a `SlowClose` happen, once."""
        if not self._finished:
            self._finished = True
            await self._to_peer.finish()

    async def _begin_to_send(self) -> None:
        if self._misbehaves:
            await self._begin(self._sent)
        if self._left:
            await trio.lowlevel.checkpoint()
            raise trio.BrokenResourceError("the peer has left, by a fault")

    async def _begin(self, *plans: Plan) -> None:
        """Do what is planned to come first."""
        for plan in plans:
            if (slow := plan.first(SlowAccept)) is not None:
                self._note_once(plan, slow)
                if (end := self._created + slow.seconds) > trio.current_time():
                    await trio.sleep_until(end)
        if self._begun:
            return
        self._begun = True
        _refuse(self._sent)
        await self._to_peer.begin()
        try:
            _refuse(self._received)
            await self._to_user.begin()
        except FaultEndedError as error:
            if isinstance(error.fault, Reset):
                raise
            self._left = self._inbox.ended = True
            await self._below.aclose()

    def _note_once(self, plan: Plan, fault: Fault) -> None:
        if id(fault) not in self._waited_for:
            self._waited_for.add(id(fault))
            plan.note(fault)

    @contextlib.asynccontextmanager
    async def _using(self, what: str) -> AsyncIterator[None]:
        """Let one task at a time use it, as long as it is neither closed nor broken.

        Raises:
            trio.BusyResourceError: another task does the same.
            trio.ClosedResourceError: it was closed, meanwhile too.
            trio.BrokenResourceError: a fault has ended it.
        """
        if what in self._busy:
            raise trio.BusyResourceError(f"another task is using this stream to {what}")
        await self._check_usable()
        ended_by: Fault | None = None
        with trio.CancelScope() as scope:
            self._busy[what] = scope
            try:
                yield
            except FaultEndedError as error:
                ended_by = error.fault
            except trio.ClosedResourceError:
                if self._closed or not self._broken:
                    raise
                raise trio.BrokenResourceError("ended by a fault") from None
            finally:
                del self._busy[what]
        if ended_by is not None:
            await self._break(ended_by)
            raise trio.BrokenResourceError(f"ended by {ended_by}")
        if scope.cancelled_caught:
            await self._check_usable()

    async def _break(self, fault: Fault) -> None:
        """Break the connection, for both ends and for the other task that uses this one."""
        self._broken = True
        for scope in self._busy.values():
            scope.cancel(reason="a fault has ended the stream")
        if isinstance(fault, Refuse):  # which is no more than a close
            await trio.aclose_forcefully(self._below)
        else:
            await self._below.reset()

    async def _check_usable(self) -> None:
        if self._closed or self._broken:
            await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._broken:
            raise trio.BrokenResourceError("a fault has ended this stream")


class FaultyHalfCloseableStream(FaultyStream, trio.abc.HalfCloseableStream):
    """The same over a stream that can be half-closed."""

    async def send_eof(self) -> None:
        """Send the end, as `trio.abc.HalfCloseableStream.send_eof`, but for the faults."""
        async with self._using("send"):
            await self._begin_to_send()
            if (ignore := self._received.first(IgnoreEnd)) is not None:
                self._note_once(self._received, ignore)
                await trio.lowlevel.checkpoint()
                return
            await self._finish()
            await self._below.send_eof()


def _refuse(plan: Plan) -> None:
    if (refuse := plan.first(Refuse)) is not None:
        plan.note(refuse)
        raise FaultEndedError(refuse)


@overload
def faulty(
    stream: trio.abc.HalfCloseableStream,
    *faults: Fault,
    received: Sequence[Fault] = (),
    seed: int = 0,
) -> FaultyHalfCloseableStream: ...


@overload
def faulty(
    stream: trio.abc.Stream,
    *faults: Fault,
    received: Sequence[Fault] = (),
    seed: int = 0,
) -> FaultyStream: ...


def faulty(
    stream: trio.abc.Stream,
    *faults: Fault,
    received: Sequence[Fault] = (),
    seed: int = 0,
) -> FaultyStream:
    """Return a stream over `stream`, which it owns from now on, that misbehaves.

    `faults` happen to what is sent through it: to the other end, this one is an echo server
    with these faults. So they deceive a client where a server's stream is wrapped. `received`
    happen to what is received through it, as if the other end were such a server: they deceive
    the very user of the stream. It can be half-closed if `stream` can.

    A `Delay` of what is sent is one of `send_all`. What never ends, such as a `Stall`, waits
    until it is cancelled or the stream is closed. Without faults it does what `stream` does.

    Raises:
        ValueError: a fault cannot happen on such a stream, or a value is of another kind.
    """
    _STREAM.check(stream=stream)
    FAULTS.check(faults=faults, received=received)
    half_closeable = isinstance(stream, trio.abc.HalfCloseableStream)
    for each in (faults, received):
        check_applicable(each, "memory", "a stream")
        if not half_closeable:
            check_applicable(each, "tls", "a stream that cannot be half-closed")
    kind = FaultyHalfCloseableStream if half_closeable else FaultyStream
    # Or both directions would have the same luck.
    return kind(stream, Planner(faults, seed), Planner(received, ~seed))
