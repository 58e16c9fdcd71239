"""Correspondents: a datagram out, and whatever comes back, from whomever."""

from __future__ import annotations

from itertools import takewhile
from operator import eq
from typing import Any, Final

import attrs
import trio

from techo._checking.subject import FailedError, Subject, Trace, told
from techo._client.datagram_socket import DatagramSocket
from techo._packets import LARGEST_PACKET
from techo.reply import STAMP_LENGTH, raw, stamp_at

_TRIES: Final = 4
"""How often a datagram is sent before what it asks counts as unanswered: networks lose some."""

_WAIT: Final = 1.0
"""Seconds after which a datagram counts as lost: more than a round trip takes on earth."""

_TELLING: Final = 8
"""Bytes that, equal from the start, show which datagram an answer is to."""


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
        return self.whole or self.offset >= _TELLING

    def tell(self) -> str:
        """Say what is wrong with it."""
        wanted, came = len(self.question), len(self.echo)
        if self.offset == came < wanted:
            return f"{told(wanted)} came back cut to {came:,}"
        return (
            f"{told(wanted)} came back as {came:,} which differ at offset {self.offset}: "
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
class Correspondent:
    """A socket that anybody can answer to, and the service it writes to."""

    subject: Subject[DatagramSocket]
    trace: Trace
    largest: int
    """Bytes that fit into a datagram there and, with its stamp if it has one, back."""
    _address: str | tuple[Any, ...]
    expected: Any
    """The address that answers should come from."""
    socket: trio.socket.SocketType

    @classmethod
    async def open(cls, subject: Subject[DatagramSocket], trace: Trace) -> Correspondent:
        """Get ready to write to the subject; whoever calls closes `socket`."""
        async with subject.opened() as line:
            sock, address, expected = line.open_unconnected()
            room = 0 if subject.reply is raw else STAMP_LENGTH
            ours = trio.socket.from_stdlib_socket(sock)
            return cls(subject, trace, line.largest - room, address, expected, ours)

    async def receive(self, question: bytes) -> Answer:
        """Wait for a datagram, whatever it is."""
        data, sender = await self.socket.recvfrom(LARGEST_PACKET)
        self.trace.received += len(data)
        return _compared(question, data, sender)

    async def ask(
        self, question: bytes, tries: int = _TRIES, wait: float = _WAIT
    ) -> Answer | None:
        """Send it until it is answered; give the answer, the last stranger, or None."""
        stranger = None
        for _ in range(tries):
            await self.socket.sendto(question, self._address)
            self.trace.sent += len(question)
            with trio.move_on_after(min(wait, self.subject.patience / (tries + 1))):
                while True:
                    answer = await self.receive(question)
                    if answer.decided:
                        return answer
                    stranger = answer
        return stranger

    async def insist(self, question: bytes) -> Answer:
        """Send it until it is echoed.

        Raises:
            FailedError: it is not, or not as the subject should.
        """
        answer = await self.ask(question)
        if answer is None:
            raise FailedError(f"no answer to {_TRIES} datagrams of {told(len(question))}")
        if not answer.whole:
            self.trace.offset = answer.offset
            raise FailedError(answer.tell())
        self.subject.found(stamps=answer.stamps)
        return answer
