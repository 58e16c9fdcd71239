"""Checks of datagrams: one function for each rule, and the prober that they all use."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
from collections.abc import AsyncIterator
from itertools import takewhile
from operator import eq
from typing import Any, Final

import attrs
import trio

from techo._addresses import text_of
from techo._checking.context import (
    CheckFunction,
    Context,
    FailedError,
    Trace,
    describe,
    evidence_of,
    size_text,
)
from techo._checking.stream_checks import BYTE_VALUES, QUIET, STAMP_LIKE
from techo._kernel.options import SocketOptions
from techo._printable import printable
from techo._shortage import OutOfPortsError
from techo._transport.messages import LARGEST_PACKET
from techo.reply import STAMP_LENGTH, raw, stamp_at

_TRIES: Final = 4
"""How often a datagram is sent before what it asks counts as unanswered: networks lose some."""

_WAIT: Final = 1.0
"""Seconds after which a datagram counts as lost: more than a round trip takes on earth."""

_DECISIVE: Final = 8
"""Bytes that, equal from the start, show which datagram an answer is to."""

_PROBE_TRIES: Final = 2
_PROBE_WAIT: Final = 0.2
"""Seconds. The search for the largest that comes back asks some twenty times."""


@attrs.frozen
class Answer:
    """A datagram that came back, held against the one it may answer."""

    question: bytes
    data: bytes
    sender: Any
    stamps: int
    """How many stamps stand before what is taken for the echo."""
    offset: int
    """How many bytes of the question it has right."""

    @property
    def echo(self) -> bytes:
        """What came back, without the stamp."""
        return self.data[STAMP_LENGTH * self.stamps :]

    @property
    def whole(self) -> bool:
        """Whether it is the question, with or without a stamp."""
        return self.echo == self.question

    @property
    def decided(self) -> bool:
        """Whether it answers this question, rightly or not; an earlier one's may be late."""
        return self.whole or self.offset >= _DECISIVE

    def mismatch(self) -> str:
        """Return in words what is wrong with it."""
        wanted, came = len(self.question), len(self.echo)
        if self.offset == came < wanted:
            return f"{size_text(wanted)} came back cut to {came:,}"
        return (
            f"{size_text(wanted)} came back as {came:,} which differ at offset {self.offset}: "
            f"expected {self.question[self.offset :][:16]!r}, "
            f"received {self.echo[self.offset :][:16]!r}"
        )


def _compared(question: bytes, data: bytes, sender: Any) -> Answer:
    readings = [0]
    if stamp_at(data, 0) is not None:
        readings.append(1)
    answers = []
    for stamps in readings:
        echo = data[STAMP_LENGTH * stamps :]
        offset = sum(1 for _ in takewhile(bool, map(eq, question, echo)))
        answers.append(Answer(question, data, sender, stamps, offset))
    return max(answers, key=lambda answer: (answer.whole, answer.offset))


@attrs.define(eq=False)
class Prober:
    """A socket that receives from any address, and the service that it sends to."""

    context: Context
    trace: Trace
    largest: int
    """Bytes that fit into a datagram there and, with its stamp if it has one, back."""
    socket: trio.socket.SocketType
    asked: int = 0
    """Datagrams that were sent."""
    came: int = 0
    """Datagrams that came back, whatever was in them."""

    @classmethod
    def open(cls, context: Context, trace: Trace) -> Prober:
        """Open one; the caller closes `socket`."""
        room = 0 if context.reply is raw else STAMP_LENGTH
        sock = _unconnected(context.place.family, context.options)
        return cls(context, trace, context.place.largest - room, sock)

    async def receive(self, question: bytes) -> Answer:
        """Wait for a datagram, whatever it is."""
        data, sender = await self.socket.recvfrom(LARGEST_PACKET)
        self.came += 1
        self.trace.received += len(data)
        return _compared(question, data, sender)

    async def ask(
        self, question: bytes, tries: int = _TRIES, wait: float = _WAIT
    ) -> Answer | None:
        """Send it until it is answered; return the answer, else the last stray one, or None."""
        stray = None
        for _ in range(tries):
            await self.socket.sendto(question, self.context.place.address)
            self.asked += 1
            self.trace.sent += len(question)
            with trio.move_on_after(min(wait, self.context.patience / (tries + 1))):
                while True:
                    answer = await self.receive(question)
                    if answer.decided:
                        return answer
                    stray = answer
        return stray

    async def insist(self, question: bytes) -> Answer:
        """Send it until it is echoed.

        Raises:
            FailedError: it is not, or not as it should be.
        """
        answer = await self.ask(question)
        if answer is None:
            raise FailedError(f"no answer to {_TRIES} datagrams of {size_text(len(question))}")
        if not answer.whole:
            self.trace.offset = answer.offset
            raise FailedError(answer.mismatch())
        self.context.found(stamps=answer.stamps)
        return answer


def _unconnected(family: int, options: SocketOptions) -> trio.socket.SocketType:
    """Open a socket for datagrams from any address."""
    sock = options.open(family, socket.SOCK_DGRAM)
    try:
        if family == getattr(socket, "AF_UNIX", None):
            sock.bind("")  # any free abstract name: who has none can't be answered
        elif options.source is None:
            sock.bind(("", 0))  # to send without would wait for a free port for ever (EAGAIN)
    except OSError as error:
        sock.close()
        raise OutOfPortsError if error.errno == errno.EADDRINUSE else error from None
    return trio.socket.from_stdlib_socket(sock)


@contextlib.asynccontextmanager
async def open_prober(  # noqa: ASYNC124  -- async with, as the others
    context: Context, trace: Trace
) -> AsyncIterator[Prober]:
    """Open a prober for the length of a block."""
    prober = Prober.open(context, trace)
    with prober.socket:
        yield prober


async def _random(size: int, context: Context, trace: Trace) -> str:
    return await _content(os.urandom(size), context, trace)


async def _content(data: bytes, context: Context, trace: Trace) -> str:
    async with open_prober(context, trace) as prober:
        await prober.insist(data)
    return f"{size_text(len(data))} came back unchanged" if data else "came back empty"


async def _reply_address(context: Context, trace: Trace) -> str:
    async with open_prober(context, trace) as prober:
        answer = await prober.insist(os.urandom(100))
        expected = context.place.expected
    if _place(answer.sender) != _place(expected):
        raise FailedError(
            f"the answer came from {_shown(answer.sender)}, not from {_shown(expected)}"
        )
    return "the answer came from the address that was asked"


def _place(address: object) -> object:
    # Of an IPv6 address the flow and the scope are the system's business.
    return address[:2] if isinstance(address, tuple) else address


def _shown(address: Any) -> str:
    return printable(text_of(address)) if address else "a socket without a name"


async def _one_reply(context: Context, trace: Trace) -> str:
    count = 3
    async with open_prober(context, trace) as prober:
        for _ in range(count):
            await prober.insist(os.urandom(100))
            with trio.move_on_after(QUIET):
                while prober.came <= prober.asked:
                    await prober.receive(b"")
            if prober.came > prober.asked:
                raise FailedError(
                    f"{prober.asked} datagrams were answered with {prober.came}"
                    if prober.asked > 1
                    else f"a datagram was answered with {prober.came}"
                )
    return f"{count} datagrams, each answered once"


async def _largest(context: Context, trace: Trace) -> str:
    until = trio.current_time() + context.patience * 0.9
    async with open_prober(context, trace) as prober:
        most = prober.largest
        question = os.urandom(most)
        try:
            answer = await prober.ask(question, wait=context.patience * 0.1)
        except OSError as error:
            answer, problem = None, describe(error)
        else:
            problem = f"no answer to {most:,} bytes" if answer is None else answer.mismatch()
        if answer is not None and answer.whole:
            return f"{most:,} bytes, as much as the transport carries, came back whole"
        guesses = []
        if answer is not None:
            trace.offset = answer.offset
            guesses = [answer.offset, answer.offset + 1]
        whole, cut = 0, most
        while cut - whole > 1 and trio.current_time() < until:
            size = guesses.pop(0) if guesses else (whole + cut) // 2
            if whole < size < cut:
                if await _comes_back(prober, size):
                    whole = size
                else:
                    cut = size
    found = f"{whole:,}" if cut - whole == 1 else f"between {whole:,} and {cut:,}"
    raise FailedError(f"{problem}; the largest that came back whole has {found} bytes")


async def _comes_back(prober: Prober, size: int) -> bool:
    try:
        answer = await prober.ask(os.urandom(size), _PROBE_TRIES, _PROBE_WAIT)
    except OSError:  # too large for some hop that we know of
        return False
    return answer is not None and answer.whole


async def _many_at_once(context: Context, trace: Trace) -> str:
    failures: list[Exception] = []

    async def one() -> None:
        try:
            async with open_prober(context, trace) as prober:
                await prober.insist(os.urandom(1000))
        except (FailedError, OSError) as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for _ in range(context.connections):
            nursery.start_soon(one)
    if failures:
        evidence = evidence_of(ExceptionGroup("failed", failures))
        raise FailedError(
            f"{len(failures)} of {context.connections} sockets got no echo: {evidence}"
        )
    return f"{context.connections} sockets, each with bytes of its own"


DATAGRAM_CHECKS: Final[dict[str, CheckFunction]] = {
    "1-byte": functools.partial(_random, 1),
    "empty": functools.partial(_content, b""),
    "1460-bytes": functools.partial(_random, 1460),
    "largest": _largest,
    "byte-values": functools.partial(_content, BYTE_VALUES),
    "stamp-like": functools.partial(_content, STAMP_LIKE),
    "reply-address": _reply_address,
    "one-reply": _one_reply,
    "many-at-once": _many_at_once,
}
"""By name, in their order: the simple ones first, and last the one that may exhaust it."""
