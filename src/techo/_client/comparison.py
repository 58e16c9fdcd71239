"""Comparing what came back with what was sent, stamps or no stamps; bytes only, no I/O.

A reply is the bytes that were sent, in order, with stamps anywhere between them: a stream
has no messages, so how many stamps there are is the network's business. What was sent may
itself look like stamps. So the comparison takes bytes literally as long as it can, and goes
back to the latest place where a stamp can have begun when it can't. Refuted places are
remembered: whatever explanation there is, is found, and none is tried twice. Only a reply that
has thousands of possible explanations, and still found none, is given up on.
"""

from __future__ import annotations

from typing import Final

import attrs

from techo.reply import STAMP_LENGTH, may_become_stamp, stamp_at, stamps_in

_AROUND: Final = 16
"""Bytes shown in an error from where it went wrong."""

_MOST_TRIES: Final = 5000
"""Stamps tried for one piece of a reply. An honest reply needs one for each stamp in it, and a
few where what was sent looks like stamps; a wrong one made of stamps could take hours."""

_REMEMBERED: Final = 2**16
"""Bytes of an endless echo that stay open to another explanation."""


class EchoError(Exception):
    """What came back is not what was sent."""


class EchoMismatch(EchoError):
    """A byte came back that is neither what was sent nor part of a stamp."""

    def __init__(self, offset: int, expected: bytes, received: bytes) -> None:
        super().__init__(offset, expected, received)
        self.offset = offset
        """How many of the sent bytes came back right before it."""
        self.expected = expected
        """What was sent from there on, shortened; empty if nothing more was."""
        self.received = received
        """What came in its place, shortened likewise."""

    def __str__(self) -> str:
        return (
            f"the echo differs at offset {self.offset}: "
            f"expected {self.expected!r}, received {self.received!r}"
        )


class ShortReply(EchoError):
    """The server closed the connection before everything had come back."""

    def __init__(self, received: int, expected: int) -> None:
        super().__init__(received, expected)
        self.received = received
        """How many of the sent bytes came back, stamps not counted."""
        self.expected = expected
        """How many were sent."""

    def __str__(self) -> str:
        return f"the echo ended after {self.received} of {self.expected} bytes"


def _copied(data: bytes | bytearray) -> bytearray:
    return bytearray(memoryview(data))  # bytearray(5) would be five zeros


@attrs.define(eq=False)
class Comparison:
    """Follows one echo: what was sent is expected, and fed back in pieces of any size."""

    _sent: bytearray = attrs.field(converter=_copied, factory=bytearray)
    _reply: bytearray = attrs.field(factory=bytearray, init=False)
    _forgotten: int = attrs.field(default=0, init=False)
    _stamps_forgotten: int = attrs.field(default=0, init=False)
    _explained: int = attrs.field(default=0, init=False)
    _stamps: list[int] = attrs.field(factory=list, init=False)
    _refuted: set[tuple[int, int]] = attrs.field(factory=set, init=False)

    @property
    def reply(self) -> bytes:
        """Everything that came back so far, stamps included."""
        return bytes(self._reply)

    @property
    def stamps(self) -> tuple[str, ...]:
        """The stamps in it, in ctime's words."""
        return tuple(str(stamp_at(self._reply, offset)) for offset in self._stamps)

    @property
    def matched(self) -> int:
        """How many of the sent bytes came back."""
        return self._forgotten + self._position

    @property
    def _position(self) -> int:
        return self._explained - STAMP_LENGTH * len(self._stamps)

    @property
    def complete(self) -> bool:
        """Whether all that was sent has come back, and nothing is left over."""
        return self.missing == 0 and self._explained == len(self._reply)

    @property
    def missing(self) -> int:
        """How many of the sent bytes have not come back."""
        return len(self._sent) + self._forgotten - self.matched

    def expect(self, data: bytes) -> None:
        """Add `data` to what was sent."""
        self._sent += data

    def feed(self, data: bytes | bytearray) -> None:
        """Take in what came back; no bytes mean end-of-file, as in `receive_some`.

        Raises:
            EchoMismatch: no explanation is left for what came back.
            ShortReply: the end came before all had come back.
        """
        if not data:
            if not self.complete:
                raise ShortReply(self.matched, self.matched + self.missing)
            return
        self._reply += data
        furthest = self._advance()
        tries = 0
        while self._explained < len(self._reply) and not self._stamp_is_arriving():
            tries += 1
            if tries > _MOST_TRIES or not self._take_stamp():
                raise self._mismatch(*furthest)
            furthest = max(furthest, self._advance())
        if self._stamps_forgotten + len(self._stamps) > max(
            1, len(self._sent) + self._forgotten
        ):
            # Each announces a byte at least, or the one reply to an empty datagram.
            raise self._mismatch(*furthest)

    def _advance(self) -> tuple[int, int]:
        """Take bytes literally as far as that goes; return how far: (sent, reply) offsets."""
        self._explained += _common_prefix(
            self._reply, self._explained, self._sent, self._position
        )
        return self._position, self._explained

    def _stamp_is_arriving(self) -> bool:
        """Return whether the reply may end in a part of a stamp.

        That has to begin where the explained bytes end, or before.
        """
        # No stamp holds a second bracket of this kind, so only the last can be arriving.
        start = self._reply.rfind(b"[", self._start_of_run(len(self._reply) - STAMP_LENGTH + 1))
        return 0 <= start <= self._explained and may_become_stamp(self._reply[start:])

    def _start_of_run(self, least: int = 0) -> int:
        """Return where the bytes begin that are taken literally since the last stamp."""
        return max(least, self._stamps[-1] + STAMP_LENGTH if self._stamps else 0)

    def _take_stamp(self) -> bool:
        """Go back to the latest place where a stamp can have begun, if there is one."""
        before = self._explained
        while True:
            for place in reversed(stamps_in(self._reply, self._start_of_run(), before)):
                key = (place, len(self._stamps))
                if key not in self._refuted:
                    self._refuted.add(key)
                    self._stamps.append(place)
                    self._explained = place + STAMP_LENGTH
                    return True
            if not self._stamps:
                return False
            before = self._stamps.pop() - 1

    def forget(self) -> None:
        """Drop all but the last of what was explained, so that an endless echo stays small.

        From then on `reply` and `stamps` begin there, and no earlier place is reconsidered.
        """
        reply = max(0, self._explained - _REMEMBERED)
        kept = [start for start in self._stamps if start >= reply]
        dropped = len(self._stamps) - len(kept)
        if dropped:  # never cut through a stamp
            reply = max(reply, self._stamps[dropped - 1] + STAMP_LENGTH)
        sent = reply - STAMP_LENGTH * dropped
        del self._reply[:reply]
        del self._sent[:sent]
        self._forgotten += sent
        self._stamps_forgotten += dropped
        self._explained -= reply
        self._stamps = [start - reply for start in kept]
        self._refuted = {
            (start - reply, count - dropped) for start, count in self._refuted if start >= reply
        }

    def _mismatch(self, position: int, reply: int) -> EchoMismatch:
        return EchoMismatch(
            self._forgotten + position,
            bytes(self._sent[position : position + _AROUND]),
            bytes(self._reply[reply : reply + _AROUND]),
        )


def _common_prefix(a: bytearray, a_start: int, b: bytearray, b_start: int) -> int:
    """Return how many bytes are equal from the two offsets on."""
    most = min(len(a) - a_start, len(b) - b_start)
    with memoryview(a) as view_a:
        if b.startswith(view_a[a_start : a_start + most], b_start):
            return most
        # Halving keeps the comparing in C; the first difference lies in [low, high).
        low, high = 0, most
        while high - low > 1:
            middle = (low + high) // 2
            if b.startswith(view_a[a_start + low : a_start + middle], b_start + low):
                low = middle
            else:
                high = middle
        return low
