"""Checks of datagrams: one function for each rule."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncIterator
from typing import Final

import trio

from techo._checking.correspondent import Correspondent
from techo._checking.exchange import QUIET
from techo._checking.stream_checks import BYTE_VALUES, STAMP_LIKE
from techo._checking.subject import CheckFunction, FailedError, Subject, Trace, told, why
from techo._client.datagram_socket import DatagramSocket

_PROBE_TRIES: Final = 2
_PROBE_WAIT: Final = 0.2
"""Seconds. The search for the largest that comes back asks some twenty times."""


@contextlib.asynccontextmanager
async def open_correspondent(
    subject: Subject[DatagramSocket], trace: Trace
) -> AsyncIterator[Correspondent]:
    """Get ready to write to the subject for the length of a block."""
    correspondent = await Correspondent.open(subject, trace)
    with correspondent.socket:
        yield correspondent


async def _random(size: int, subject: Subject[DatagramSocket], trace: Trace) -> str:
    return await _content(os.urandom(size), subject, trace)


async def _content(data: bytes, subject: Subject[DatagramSocket], trace: Trace) -> str:
    async with open_correspondent(subject, trace) as correspondent:
        await correspondent.insist(data)
    return f"{told(len(data))} came back unchanged" if data else "came back empty"


async def _reply_address(subject: Subject[DatagramSocket], trace: Trace) -> str:
    async with open_correspondent(subject, trace) as correspondent:
        answer = await correspondent.insist(os.urandom(100))
        expected = correspondent.expected
    if _place(answer.sender) != _place(expected):
        raise FailedError(f"the answer came from {answer.sender!r}, not from {expected!r}")
    return "the answer came from the address that was asked"


def _place(address: object) -> object:
    # Of an IPv6 address the flow and the scope are the system's business.
    return address[:2] if isinstance(address, tuple) else address


async def _one_reply(subject: Subject[DatagramSocket], trace: Trace) -> str:
    count = 3
    async with open_correspondent(subject, trace) as correspondent:
        for _ in range(count):
            question = os.urandom(100)
            await correspondent.insist(question)
            with trio.move_on_after(QUIET):
                while True:
                    answer = await correspondent.receive(question)
                    if answer.decided:
                        raise FailedError("a datagram was answered more than once")
    return f"{count} datagrams, each answered once"


async def _largest(subject: Subject[DatagramSocket], trace: Trace) -> str:
    until = trio.current_time() + subject.patience * 0.9
    async with open_correspondent(subject, trace) as correspondent:
        most = correspondent.largest
        question = os.urandom(most)
        try:
            answer = await correspondent.ask(question, wait=subject.patience * 0.1)
        except OSError as error:
            answer, problem = None, why(error)
        else:
            problem = f"no answer to {most:,} bytes" if answer is None else answer.tell()
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
                if await _comes_back(correspondent, size):
                    whole = size
                else:
                    cut = size
    found = f"{whole:,}" if cut - whole == 1 else f"between {whole:,} and {cut:,}"
    raise FailedError(f"{problem}; the largest that came back whole has {found} bytes")


async def _comes_back(correspondent: Correspondent, size: int) -> bool:
    try:
        answer = await correspondent.ask(os.urandom(size), _PROBE_TRIES, _PROBE_WAIT)
    except OSError:  # too large for some hop that we know of
        return False
    return answer is not None and answer.whole


async def _many_at_once(subject: Subject[DatagramSocket], trace: Trace) -> str:
    failures: list[str] = []

    async def one() -> None:
        try:
            async with open_correspondent(subject, trace) as correspondent:
                await correspondent.insist(os.urandom(1000))
        except FailedError as error:
            failures.append(str(error))
        except OSError as error:
            failures.append(why(error))

    async with trio.open_nursery() as nursery:
        for _ in range(subject.connections):
            nursery.start_soon(one)
    if failures:
        raise FailedError(
            f"{len(failures)} of {subject.connections} sockets got no echo: {failures[0]}"
        )
    return f"{subject.connections} sockets, each with bytes of its own"


DATAGRAM_CHECKS: Final[dict[str, CheckFunction[DatagramSocket]]] = {
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
