"""Exchanges: bytes there and back over one connection, compared as they come."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Final, NoReturn

import attrs
import trio

from techo._checking.subject import FailedError, Subject, Trace
from techo._client.comparison import Comparison
from techo._nursery import open_bare_nursery
from techo._packets import PacketStream
from techo.reply import STAMP_LENGTH

PIECE: Final = 2**16
"""Bytes sent and received at a time."""

QUIET: Final = 0.1
"""Seconds in which a service that has nothing to say should say nothing."""


@attrs.define(eq=False)
class Exchange:
    """Bytes there and back over one connection, in two tasks, so that no amount is too much."""

    subject: Subject[trio.abc.Stream]
    trace: Trace
    stream: trio.abc.Stream

    async def echo(
        self, data: bytes | None = None, *, size: int = 0, finish: bool = False
    ) -> None:
        """Send `data`, or `size` bytes, and wait until all has come back.

        With `finish`, say behind them that nothing more comes, as far as the transport can.
        Of what has come back only the last is kept, so that much takes little memory.
        """
        comparison, stamps, owed = Comparison(), 0, size if data is None else len(data)

        async def send() -> None:
            nonlocal owed
            # A service that ends early breaks the sending too; receiving tells how far it came.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for piece in self.pieces(data, size):
                    comparison.expect(piece)
                    owed -= len(piece)
                    self.trace.sent += len(piece)
                    await self.stream.send_all(piece)
                if finish and isinstance(self.stream, trio.abc.HalfCloseableStream):
                    await self.stream.send_eof()

        async with open_bare_nursery() as nursery:
            nursery.start_soon(send)
            while owed or not comparison.complete:
                chunk = await self.stream.receive_some(PIECE)
                self.trace.received += len(chunk)
                comparison.feed(chunk)
                stamps += len(comparison.stamps)
                comparison.forget()
                stamps -= len(comparison.stamps)
        stamps += len(comparison.stamps)
        if stamps or size or data:
            self.subject.found(stamps=stamps)

    def pieces(self, data: bytes | None, size: int) -> Iterator[bytes]:
        """Cut `data`, or `size` random bytes, into what can be sent at once."""
        most = PIECE
        if isinstance(self.stream, PacketStream):
            most = min(most, self.stream.largest - STAMP_LENGTH)
        if data is not None:
            size = len(data)
        for start in range(0, size, most):
            stop = min(size, start + most)
            yield os.urandom(stop - start) if data is None else data[start:stop]

    async def end(self) -> None:
        """Wait for the end of what the service says, which must not say more before it."""
        if surplus := await self.stream.receive_some(PIECE):
            self._refuse(surplus)

    async def quiet(self) -> None:
        """Let a moment pass in which nothing must come."""
        with trio.move_on_after(QUIET), contextlib.suppress(trio.BrokenResourceError):
            if surplus := await self.stream.receive_some(PIECE):
                self._refuse(surplus)

    def _refuse(self, surplus: bytes | bytearray) -> NoReturn:
        self.trace.received += len(surplus)
        self.trace.offset = self.trace.sent
        raise FailedError(
            f"{len(surplus)} bytes came that nothing was sent for: {bytes(surplus[:16])!r}"
        )


@contextlib.asynccontextmanager
async def open_exchange(
    subject: Subject[trio.abc.Stream], trace: Trace
) -> AsyncIterator[Exchange]:
    """Connect for the length of a block."""
    async with subject.opened() as stream:
        yield Exchange(subject, trace, stream)
