"""Matching: which of the messages that were sent has come back, and whether unharmed. No I/O.

Over a stream, replies come in the order of the messages, and are one run of bytes. Where
messages are kept apart, each is found again by its bytes: it may be lost, late, doubled, cut.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Iterable, Iterator
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import attrs

from techo._client.comparison import Comparison, EchoMismatch
from techo._probing.payloads import HEADER, Payloads
from techo.reply import STAMP_LENGTH, may_become_stamp, stamp_at

_REMEMBERED: Final = 1_000
"""Messages that were lost of which is known when they come, and as many that have come of which
is known when they come again. A ping of days should not grow by what it has lost."""

_MOST_BYTES: Final = 2**20
"""Bytes that either have at the most: a load may have thousands of sockets."""

_LOOKED_AT: Final = 256
"""Bytes by which a message that was harmed is recognised."""


class Sent(Protocol):
    """A message that was sent."""

    @property
    def payload(self) -> bytes:
        """What was sent."""


SentT = TypeVar("SentT", bound=Sent)


class State(enum.Enum):
    """In what state a message came back."""

    WHOLE = enum.auto()
    AGAIN = enum.auto()
    """Whole, and not for the first time, or not in time."""
    FORGOTTEN = enum.auto()
    """The same, of a message that was over so long ago that nothing else is known of it."""
    SHORT = enum.auto()
    CORRUPT = enum.auto()
    STRAY = enum.auto()
    """It resembles none of those that are waited for."""


Arrival: TypeAlias = tuple[State, SentT | None]
"""What arrived; None if it is forgotten or a stray."""


@attrs.define(eq=False)
class InOrder(Generic[SentT]):
    """Messages over a stream."""

    _waiting: collections.deque[SentT] = attrs.field(factory=collections.deque)
    _comparison: Comparison | None = None
    """None while nothing of the reply to the first that waits has come."""
    _done: int = 0
    """Bytes of messages that have come back, since the comparison began."""
    _begun: bool = False
    """Whether more came than the ends of messages."""

    @property
    def midway(self) -> bool:
        """Whether some of the next message has come back, or of a stamp in it, and not all."""
        return self._begun and bool(self._waiting)

    @property
    def owed(self) -> int:
        """How many messages have not come back."""
        return len(self._waiting)

    @property
    def missing(self) -> int:
        """Bytes of the next message that have not come back; 0 if none is waited for.

        With a stamp in it, it takes more than these.
        """
        if not self._waiting:
            return 0
        come = 0 if self._comparison is None else self._comparison.matched - self._done
        return max(1, len(self._waiting[0].payload) - come)

    def expect(self, message: SentT) -> None:
        """Expect `message`, which is sent after all others."""
        self._waiting.append(message)
        if self._comparison is not None:
            self._comparison.expect(message.payload)

    def feed(self, chunk: bytes | bytearray) -> Iterable[Arrival[SentT]]:
        """Take in what came back; return the messages that are whole now, in order.

        No bytes mean the end of the stream.

        Raises:
            EchoMismatch: something else came back; raised behind the last message before it.
            ShortReply: the end came before all had come back.
        """
        waiting = self._waiting
        if self._comparison is None:
            # Nearly always a chunk is the reply to one message, which is quick to see.
            if len(waiting) == 1 and chunk == waiting[0].payload:
                return [(State.WHOLE, waiting.popleft())]
            self._comparison = Comparison()
            self._done = 0
            for message in waiting:
                self._comparison.expect(message.payload)
        try:
            self._comparison.feed(chunk)
        except EchoMismatch as error:
            return self._until(error)
        matched = self._comparison.matched
        arrivals = self._take(matched)
        self._begun = matched > self._done or not arrivals
        if self._comparison.complete:
            self._comparison, self._begun = None, False
        elif arrivals:
            self._comparison.forget()
        return arrivals

    def _take(self, matched: int) -> list[Arrival[SentT]]:
        """Return the messages that are whole when so many bytes have come back."""
        arrivals: list[Arrival[SentT]] = []
        while self._waiting and matched >= self._done + len(self._waiting[0].payload):
            self._done += len(self._waiting[0].payload)
            arrivals.append((State.WHOLE, self._waiting.popleft()))
        return arrivals

    def _until(self, error: EchoMismatch) -> Iterator[Arrival[SentT]]:
        arrivals = self._take(error.offset)
        if not self._waiting:
            del arrivals[-1:]  # bytes too many, when nothing else is owed, are its own
        yield from arrivals
        raise error


@attrs.define(eq=False)
class _Memory(Generic[SentT]):
    """The last messages that are over."""

    messages: collections.OrderedDict[bytes, SentT] = attrs.field(
        factory=collections.OrderedDict
    )
    """By what they begin with."""
    size: int = 0
    """Bytes of their payloads."""

    def add(self, header: bytes, message: SentT) -> None:
        self.drop(header)
        self.messages[header] = message
        self.size += len(message.payload)
        while len(self.messages) > _REMEMBERED or self.size > _MOST_BYTES:
            self.drop(next(iter(self.messages)))

    def drop(self, header: bytes) -> None:
        dropped = self.messages.pop(header, None)
        if dropped is not None:
            self.size -= len(dropped.payload)


@attrs.define(eq=False)
class OneByOne(Generic[SentT]):
    """Messages that are kept apart."""

    _payloads: Payloads
    """Those of the run: a message of which nothing is known any more can be made again."""
    _waiting: dict[bytes, SentT] = attrs.field(factory=dict)
    """By what they begin with."""
    _doubles: dict[bytes, collections.deque[SentT]] = attrs.field(factory=dict)
    """Those that begin as one which waits for longer: of few bytes there are few different."""
    # Apart, or the many that are answered would push out the few that may still come late.
    _lost: _Memory[SentT] = attrs.field(factory=_Memory, init=False)
    _answered: _Memory[SentT] = attrs.field(factory=_Memory, init=False)

    def expect(self, message: SentT) -> None:
        """Expect `message`, which is sent."""
        header = message.payload[:HEADER]
        if header in self._waiting:
            self._doubles.setdefault(header, collections.deque()).append(message)
        else:
            self._waiting[header] = message

    def give_up(self, message: SentT) -> None:
        """Wait for `message` no more; it is still recognised if it comes."""
        header = message.payload[:HEADER]
        if self._waits(message):
            self._wait_no_more(header)
        elif message in self._doubles.get(header, ()):
            self._doubles[header].remove(message)
        else:
            return
        self._lost.add(header, message)

    def feed(self, chunk: bytes | bytearray) -> list[Arrival[SentT]]:
        """Take in one message that came back; return which it is."""
        for start in (0, STAMP_LENGTH) if stamp_at(chunk, 0) else (0,):
            content = bytes(chunk[start:])
            header = content[:HEADER]
            for known in (self._waiting, self._lost.messages, self._answered.messages):
                message = known.get(header)
                if message is not None and message.payload == content:
                    return [(self._note_answer(header, message), message)]
            if not self._knows(header) and self._payloads.made(content):
                return [(State.FORGOTTEN, None)]
        return [self._harmed(bytes(chunk))]

    def _knows(self, header: bytes) -> bool:
        return (
            header in self._waiting
            or header in self._lost.messages
            or header in self._answered.messages
        )

    def _waits(self, message: SentT) -> bool:
        return self._waiting.get(message.payload[:HEADER]) is message

    def _wait_no_more(self, header: bytes) -> None:
        """Drop the one that has waited for longest, in favour of its double if it has one."""
        doubles = self._doubles.get(header) if self._doubles else None
        if doubles:
            self._waiting[header] = doubles.popleft()
            return
        del self._waiting[header]
        if doubles is not None:
            del self._doubles[header]

    def _note_answer(self, header: bytes, message: SentT) -> State:
        if self._waits(message):
            self._wait_no_more(header)
            state = State.WHOLE
        else:
            self._lost.drop(header)
            state = State.AGAIN
        self._answered.add(header, message)
        return state

    def _harmed(self, chunk: bytes) -> Arrival[SentT]:
        """Return which message it was, if at least half of it is still the same."""
        best, most, left = None, 0, chunk
        for content in _contents(chunk):
            half = max(1, (len(content[:_LOOKED_AT]) + 1) // 2)
            for message in self._candidates(content[:HEADER]):
                same = _same(content[:_LOOKED_AT], message.payload)
                if same >= max(most, half):
                    best, most, left = message, same, content
        if best is None or not self._waits(best):
            return State.STRAY, None
        self.give_up(best)
        cut = len(left) < len(best.payload) and best.payload.startswith(left)
        return State.SHORT if cut else State.CORRUPT, best

    def _candidates(self, header: bytes) -> Iterator[SentT]:
        """Yield what something that begins so may have been, the likeliest last.

        That includes what is over, so that its harm is not taken for another's.
        """
        for over in (self._answered.messages, self._lost.messages):
            if header in over:
                yield over[header]
            elif 0 < len(header) < HEADER:
                yield from (each for key, each in over.items() if key.startswith(header))
        yield from reversed(self._waiting.values())


def _contents(chunk: bytes) -> Iterator[bytes]:
    """Yield what a harmed message may be: what follows a stamp, and all of it."""
    rest = chunk[STAMP_LENGTH:]
    if rest or stamp_at(chunk, 0) or may_become_stamp(chunk):
        yield rest
    yield chunk


def _same(one: bytes, other: Iterable[int]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))
