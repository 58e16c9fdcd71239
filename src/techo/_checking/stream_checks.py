"""Checks of connections: one function for each rule, and the exchange that they all use."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator, Iterator
from typing import Final, NoReturn

import attrs
import trio

from techo._checking.context import (
    CheckFunction,
    Context,
    FailedError,
    NotApplicableError,
    Trace,
    describe,
    evidence_of,
    size_text,
)
from techo._client.comparison import Comparison
from techo._nursery import open_bare_nursery
from techo._transport.transport import Transport
from techo.reply import STAMP_LENGTH, raw, stamp_at, stamped

PIECE: Final = 2**16
"""Bytes sent and received at a time."""

QUIET: Final = 0.1
"""Seconds in which a service that has nothing to say should say nothing."""

_STALLED: Final = 1.0
"""Seconds without room for more after which a sender counts as made to wait."""

_UNBOUNDED: Final = 2**26
"""Bytes that no service may take from a client that never reads: three times what the kernel's
buffers hold at most (4 MiB to send and 6 to receive for each TCP socket on the way)."""

STAMP_LIKE: Final = b"[[Sun Nov 22 06:15:00 2026] [Sun Nov 22 06:15:00 2026]" + b"".join(
    stamped(b"") * count + b"[Mon " for count in range(6)
)
"""What a reader of stamps could take for stamps."""

BYTE_VALUES: Final = bytes(range(256)) * 2 + bytes(reversed(range(256))) + b"\r\n\0\xff\xff" * 9
"""Every byte value, and the sequences that terminals and Telnet make something of."""


@attrs.define(eq=False)
class Exchange:
    """Bytes there and back over one connection, in two tasks, so that no amount is too much."""

    context: Context
    trace: Trace
    transport: Transport

    async def echo(
        self, data: bytes | None = None, *, size: int = 0, finish: bool = False
    ) -> None:
        """Send `data`, or `size` bytes, and wait until all has come back.

        With `finish`, send end-of-file behind them, if the transport can.
        Of what has come back only the last is kept, so that much takes little memory.
        """
        comparison, stamps, unsent = Comparison(), 0, size if data is None else len(data)

        async def send() -> None:
            nonlocal unsent
            # A service that ends early breaks the sending too; receiving shows how far it came.
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for piece in self.pieces(data, size):
                    comparison.expect(piece)
                    unsent -= len(piece)
                    self.trace.sent += len(piece)
                    await self.transport.send(piece)
                if finish and self.transport.half_closeable:
                    await self.transport.send_eof()

        async with open_bare_nursery() as nursery:
            nursery.start_soon(send)
            while unsent or not comparison.complete:
                chunk = await self.transport.receive(PIECE) or b""
                self.trace.received += len(chunk)
                comparison.feed(chunk)
                stamps += len(comparison.stamps)
                comparison.forget()
                stamps -= len(comparison.stamps)
        stamps += len(comparison.stamps)
        if stamps or size or data:
            self.context.found(stamps=stamps)

    def pieces(self, data: bytes | None, size: int) -> Iterator[bytes]:
        """Yield `data`, or `size` random bytes, in pieces that can be sent at once."""
        most = PIECE
        if (largest := self.transport.largest) is not None:
            most = min(most, largest - STAMP_LENGTH)
        if data is not None:
            size = len(data)
        for start in range(0, size, most):
            stop = min(size, start + most)
            yield os.urandom(stop - start) if data is None else data[start:stop]

    async def end(self) -> None:
        """Wait for the service's end-of-file, before which nothing more must come."""
        if surplus := await self.transport.receive(PIECE):
            self._refuse(surplus)

    async def quiet(self) -> None:
        """Wait for a moment in which nothing must come."""
        with trio.move_on_after(QUIET), contextlib.suppress(trio.BrokenResourceError):
            if surplus := await self.transport.receive(PIECE):
                self._refuse(surplus)

    def _refuse(self, surplus: bytes | bytearray) -> NoReturn:
        self.trace.received += len(surplus)
        self.trace.offset = self.trace.sent
        raise FailedError(
            f"{len(surplus)} bytes came that nothing was sent for: {bytes(surplus[:16])!r}"
        )


@contextlib.asynccontextmanager
async def open_exchange(context: Context, trace: Trace) -> AsyncIterator[Exchange]:
    """Connect for the length of a block."""
    async with context.opened() as transport:
        yield Exchange(context, trace, transport)


async def _silence(context: Context, trace: Trace) -> str:
    async with open_exchange(context, trace) as exchange:
        await exchange.quiet()
    return "nothing sent, nothing came"


async def _exact(size: int, context: Context, trace: Trace) -> str:
    async with open_exchange(context, trace) as exchange:
        await exchange.echo(size=size)
        await exchange.quiet()
    return f"{size_text(size)}, both ways at once"


async def _content(data: bytes, context: Context, trace: Trace) -> str:
    async with open_exchange(context, trace) as exchange:
        await exchange.echo(data)
        await exchange.quiet()
    return f"{size_text(len(data))} came back unchanged"


async def _goes_on(context: Context, trace: Trace) -> str:
    rounds = 3
    async with open_exchange(context, trace) as exchange:
        for _ in range(rounds):
            await exchange.echo(size=100)
            await trio.sleep(QUIET)
    return f"{rounds} round trips over one connection, with pauses"


async def _half_close(context: Context, trace: Trace) -> str:
    async with open_exchange(context, trace) as exchange:
        _need_half_close(exchange.transport)
        await exchange.echo(size=2**18, finish=True)
        try:
            await exchange.end()
        except trio.BrokenResourceError:  # which another check is about
            return "everything came back after we had finished sending"
    return "everything came back after we had finished sending, then end-of-file"


async def _clean_close(context: Context, trace: Trace) -> str:
    async with open_exchange(context, trace) as exchange:
        _need_half_close(exchange.transport)
        await exchange.echo(size=1000)
        try:
            await exchange.echo(b"", finish=True)
            await exchange.end()
        except trio.BrokenResourceError as error:
            raise FailedError(
                f"all had come back, but not the end: {describe(error)}"
            ) from None
    return "end-of-file, no reset"


def _need_half_close(transport: Transport) -> None:
    if not transport.half_closeable:
        raise NotApplicableError("this transport has no half-close")


async def _back_pressure(context: Context, trace: Trace) -> str:
    latest = trio.current_time() + context.patience * 0.9
    async with open_exchange(context, trace) as exchange:
        (piece,) = exchange.pieces(None, 2**14)
        while trace.sent < _UNBOUNDED:
            with trio.move_on_after(min(_STALLED, context.patience / 4)) as scope:
                try:
                    await exchange.transport.send(piece)
                except trio.BrokenResourceError:
                    return (
                        f"a client that never reads is disconnected after {trace.sent:,} bytes"
                    )
            if scope.cancelled_caught:
                return f"a client that never reads has to wait after {trace.sent:,} bytes"
            trace.sent += len(piece)
            if trio.current_time() > latest:
                raise NotApplicableError(
                    f"undecided: still taking after {trace.sent:,} bytes, slowly"
                )
    raise FailedError(f"{trace.sent:,} bytes were taken from a client that never reads")


async def _message_bounds(context: Context, trace: Trace) -> str:
    async with open_exchange(context, trace) as exchange:
        transport = exchange.transport
        if (largest := transport.largest) is None:
            raise NotApplicableError("a stream of bytes has no messages")
        room = 0 if context.reply is raw else STAMP_LENGTH
        sizes = [1, 2, 3, 1460, 8192, 8193, largest - room, 1]
        messages = [os.urandom(size) for size in sizes]

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for message in messages:
                    trace.sent += len(message)
                    await transport.send(message)

        async with open_bare_nursery() as nursery:
            nursery.start_soon(send)
            for message in messages:
                answer = await transport.receive(PIECE) or b""
                trace.received += len(answer)
                if stamp_at(answer, 0) is not None and context.reply is not raw:
                    answer = answer[STAMP_LENGTH:]
                if answer != message:
                    nursery.cancel_scope.cancel(reason="it is decided")
                    raise FailedError(
                        f"a message of {size_text(len(message))} came back as one of "
                        f"{size_text(len(answer))}"
                        + (", cut" if message.startswith(answer) else "")
                    )
    return f"{len(messages)} messages of 1 to {max(sizes):,} bytes came back one for one"


async def _many_at_once(context: Context, trace: Trace) -> str:
    everybody = trio.Event()
    there = 0
    failures: list[Exception] = []

    async def one(everything: trio.CancelScope) -> None:
        nonlocal there
        try:
            async with open_exchange(context, trace) as exchange:
                await exchange.echo(size=1000)
                there += 1
                if there == context.connections:
                    everybody.set()
                await everybody.wait()
                await exchange.echo(size=1000)
        except Exception as error:  # noqa: BLE001  -- it is raised below, without a group
            failures.append(error)
            everything.cancel(reason="one failed")

    with trio.move_on_after(context.patience * 0.9) as scope:
        async with trio.open_nursery() as nursery:
            for _ in range(context.connections):
                nursery.start_soon(one, nursery.cancel_scope)
    if scope.cancelled_caught:
        failures.append(FailedError("no more were answered in time"))
    if failures:
        evidence = evidence_of(failures[0])
        raise FailedError(
            f"with {there} of {context.connections} connections served: {evidence}"
        )
    return f"{context.connections} connections, each with bytes of its own"


STREAM_CHECKS: Final[dict[str, CheckFunction]] = {
    "empty": _silence,
    "1-byte": functools.partial(_exact, 1),
    "1460-bytes": functools.partial(_exact, 1460),
    "64-KiB": functools.partial(_exact, 2**16),
    "1-MiB": functools.partial(_exact, 2**20),
    "16-MiB": functools.partial(_exact, 2**24),
    "byte-values": functools.partial(_content, BYTE_VALUES),
    "stamp-like": functools.partial(_content, STAMP_LIKE),
    "goes-on": _goes_on,
    "message-bounds": _message_bounds,
    "half-close": _half_close,
    "clean-close": _clean_close,
    "back-pressure": _back_pressure,
    "many-at-once": _many_at_once,
}
"""By name, in their order: the simple ones first, and last the one that may exhaust it."""
