"""Checks of connections: one function for each rule, and the exchange they all use."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Final

import trio

from techo._checking.exchange import PIECE, QUIET, open_exchange
from techo._checking.subject import (
    CheckFunction,
    FailedError,
    NotApplicableError,
    Subject,
    Trace,
    told,
    why,
)
from techo._client.comparison import EchoError
from techo._nursery import open_bare_nursery
from techo._packets import PacketStream
from techo.reply import STAMP_LENGTH, raw, stamp_at, stamped

_STALLED: Final = 1.0
"""Seconds without room for more after which a sender counts as made to wait."""

_UNBOUNDED: Final = 2**26
"""Bytes that nobody may take from a client that never reads: three times what the kernel's own
buffers hold at most (4 MiB to send and 6 to receive for each TCP socket on the way)."""

STAMP_LIKE: Final = b"[[Sun Nov 22 06:15:00 2026] [Sun Nov 22 06:15:00 2026]" + b"".join(
    stamped(b"") * count + b"[Mon " for count in range(6)
)
"""What a reader of stamps could take for stamps."""

BYTE_VALUES: Final = bytes(range(256)) * 2 + bytes(reversed(range(256))) + b"\r\n\0\xff\xff" * 9
"""Every byte value, and the sequences that terminals and Telnet make something of."""


async def _silence(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    async with open_exchange(subject, trace) as exchange:
        await exchange.quiet()
    return "nothing sent, nothing came"


async def _exact(size: int, subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    async with open_exchange(subject, trace) as exchange:
        await exchange.echo(size=size)
        await exchange.quiet()
    return f"{told(size)} came back, sent and received at the same time"


async def _content(data: bytes, subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    async with open_exchange(subject, trace) as exchange:
        await exchange.echo(data)
        await exchange.quiet()
    return f"{told(len(data))} came back unchanged"


async def _goes_on(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    rounds = 3
    async with open_exchange(subject, trace) as exchange:
        for _ in range(rounds):
            await exchange.echo(size=100)
            await trio.sleep(QUIET)
    return f"{rounds} round trips over one connection, with pauses"


async def _half_close(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    async with open_exchange(subject, trace) as exchange:
        _need_half_close(exchange.stream)
        await exchange.echo(size=2**18, finish=True)
        try:
            await exchange.end()
        except trio.BrokenResourceError:  # which another check is about
            return "everything came back after we had finished sending"
    return "everything came back after we had finished sending, then end-of-file"


async def _clean_close(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    async with open_exchange(subject, trace) as exchange:
        _need_half_close(exchange.stream)
        await exchange.echo(size=1000)
        try:
            await exchange.echo(b"", finish=True)
            await exchange.end()
        except trio.BrokenResourceError as error:
            raise FailedError(f"all had come back, but not the end: {why(error)}") from None
    return "end-of-file, no reset"


def _need_half_close(stream: trio.abc.Stream) -> None:
    if not isinstance(stream, trio.abc.HalfCloseableStream):
        raise NotApplicableError("this transport has no half-close")


async def _back_pressure(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    latest = trio.current_time() + subject.patience * 0.9
    async with open_exchange(subject, trace) as exchange:
        (piece,) = exchange.pieces(None, 2**14)
        while trace.sent < _UNBOUNDED:
            with trio.move_on_after(min(_STALLED, subject.patience / 4)) as scope:
                try:
                    await exchange.stream.send_all(piece)
                except trio.BrokenResourceError:
                    return f"a client that never reads is cut after {trace.sent:,} bytes"
            if scope.cancelled_caught:
                return f"a client that never reads has to wait after {trace.sent:,} bytes"
            trace.sent += len(piece)
            if trio.current_time() > latest:
                raise NotApplicableError(
                    f"undecided: still taking after {trace.sent:,} bytes, slowly"
                )
    raise FailedError(f"{trace.sent:,} bytes were taken from a client that never reads")


async def _message_bounds(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    async with open_exchange(subject, trace) as exchange:
        stream = exchange.stream
        if not isinstance(stream, PacketStream):
            raise NotApplicableError("a stream of bytes has no messages")
        room = 0 if subject.reply is raw else STAMP_LENGTH
        sizes = [1, 2, 3, 1460, 8192, 8193, stream.largest - room, 1]
        messages = [os.urandom(size) for size in sizes]

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                for message in messages:
                    trace.sent += len(message)
                    await stream.send_all(message)

        async with open_bare_nursery() as nursery:
            nursery.start_soon(send)
            for message in messages:
                answer = await stream.receive_some(PIECE)
                trace.received += len(answer)
                if stamp_at(answer, 0) is not None and subject.reply is not raw:
                    answer = answer[STAMP_LENGTH:]
                if answer != message:
                    nursery.cancel_scope.cancel(reason="it is decided")
                    raise FailedError(
                        f"a message of {told(len(message))} came back as one of "
                        f"{told(len(answer))}" + (", cut" if message.startswith(answer) else "")
                    )
    return f"{len(messages)} messages of 1 to {max(sizes):,} bytes came back one for one"


async def _many_at_once(subject: Subject[trio.abc.Stream], trace: Trace) -> str:
    everybody = trio.Event()
    there = 0
    failures: list[str] = []

    async def one(everything: trio.CancelScope) -> None:
        nonlocal there
        try:
            async with open_exchange(subject, trace) as exchange:
                await exchange.echo(size=1000)
                there += 1
                if there == subject.connections:
                    everybody.set()
                await everybody.wait()
                await exchange.echo(size=1000)
        except (FailedError, EchoError) as error:
            failures.append(str(error))
        except (OSError, trio.BrokenResourceError) as error:
            failures.append(why(error))
        else:
            return
        everything.cancel(reason="one failed")

    with trio.move_on_after(subject.patience * 0.9) as scope:
        async with trio.open_nursery() as nursery:
            for _ in range(subject.connections):
                nursery.start_soon(one, nursery.cancel_scope)
    if scope.cancelled_caught:
        failures.append("no more were answered in time")
    if failures:
        raise FailedError(
            f"with {there} of {subject.connections} connections served: {failures[0]}"
        )
    return f"{subject.connections} connections, each with bytes of its own"


STREAM_CHECKS: Final[dict[str, CheckFunction[trio.abc.Stream]]] = {
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
