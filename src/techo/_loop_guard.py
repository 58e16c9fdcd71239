"""The loop guard: datagrams that are our own replies coming back, maybe from another server.

A forged datagram can set two servers that answer everything against each other, whatever their
ports are. Each of them sees its own reply come back. A stamped reply that does is a loop, since
nobody else writes it. One that is not stamped may be what an honest prober sends for years, so
its source is slowed down, and only when it came back unchanged very often and fast. A reply
that comes back changed, behind another one or from another address it does not know.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from techo._buckets import MOST_SOURCES, Buckets
from techo._log import name_of, warning
from techo.reply import STAMP_LENGTH, Reply, stamp_at, stamped

_RUN: Final = 1000
"""Replies that come back unchanged, one after the other, until their source is limited."""

_WITHIN: Final = 0.05
"""Seconds from a reply to its return: far less than from one probe to the next of those that
repeat their payload."""

_PER_SECOND: Final = 100
"""Datagrams of a limited source that are answered: enough for any probe."""

_PAUSE: Final = 1.0
"""Seconds of silence after which a source is not limited any more: a loop has none."""

_HEAD: Final = 128
"""Bytes by which a stamped reply is known, or any that is not looked at closely."""

SAMPLED: Final = 16
"""Of so many datagrams that come in a row one is looked at, as long as nothing is suspected:
a look at each would be a fifth of what they cost."""

_SUSPICIOUS: Final = 8
"""Looks at a source that have seen the same, after which each of its datagrams is looked at."""

_MOST_SUSPECTS: Final = 256
"""Sources of which a whole reply is remembered, of 64 KiB at the most over UDP."""


@attrs.define(eq=False)
class _Sample:
    """What the looks at a source have seen."""

    head: int
    """A hash."""
    at: float
    looks: int = 1


@attrs.define(eq=False)
class _Source:
    """What was last sent to a source whose datagrams have been replies before."""

    reply: bytes
    at: float
    """When, in the run's clock."""
    run: int = 0
    """How often that has come back."""
    limited: bool = False


@attrs.define(eq=False)
class LoopGuard:
    """Knows our replies when they return to one socket, in bounded memory."""

    reply: Reply
    alert: bool = attrs.field()
    """Whether to call `is_loop` and `note` for every datagram; else for one in `SAMPLED`."""
    _samples: dict[Any, _Sample] = attrs.field(factory=dict)
    _suspects: dict[Any, _Source] = attrs.field(factory=dict)
    _stamped: dict[Any, bytes] = attrs.field(factory=dict)
    """The head of the last reply to each source, where all have a stamp."""
    _limit: Buckets = attrs.field(factory=lambda: Buckets(_PER_SECOND))

    @alert.default
    def _is_stamped(self) -> bool:
        return self.reply is stamped

    def note(self, peer: Any, reply: bytes, now: float) -> None:
        """Remember what is sent to a source; not needed where replies are what they answer."""
        if self.reply is stamped:
            self._stamped[peer] = reply[:_HEAD]
            _forget(self._stamped, MOST_SOURCES)
        elif (source := self._suspects.get(peer)) is not None:
            source.reply, source.at = reply, now

    def is_loop(self, data: memoryview, peer: Any, now: float) -> bool:
        """Return whether a datagram is not to be answered, because that might never end."""
        if self.reply is stamped:
            return bytes(data[:1]) == b"[" and self._returns(bytes(data[:_HEAD]), peer)
        if (source := self._suspects.get(peer)) is not None:
            return self._is_too_often(source, bytes(data), peer, now)
        head = hash(bytes(data[:_HEAD]))
        sample = self._samples.get(peer)
        if sample is None or sample.head != head or now - sample.at > SAMPLED * _WITHIN:
            self._samples[peer] = _Sample(head, now)
            _forget(self._samples, MOST_SOURCES)
            return False
        sample.looks, sample.at = sample.looks + 1, now
        if sample.looks >= _SUSPICIOUS:
            del self._samples[peer]
            self._suspects[peer] = _Source(bytes(data), now)
            _forget(self._suspects, _MOST_SUSPECTS)
            self.alert = True
        return False

    def _returns(self, head: bytes, peer: Any) -> bool:
        """Return whether a stamped reply is back, maybe with another's stamp before it."""
        reply = self._stamped.get(peer)
        if reply is None:
            return False
        if head.startswith(reply):
            return True
        rest = reply[: _HEAD - STAMP_LENGTH]
        return head.startswith(rest, STAMP_LENGTH) and stamp_at(head, 0) is not None

    def _is_too_often(self, source: _Source, data: bytes, peer: Any, now: float) -> bool:
        pause = now - source.at
        source.run = source.run + 1 if pause <= _WITHIN and data == source.reply else 0
        source.reply, source.at = data, now
        if source.limited:
            source.limited = pause < _PAUSE
        elif source.run >= _RUN:
            source.limited = True
            warning(
                "%s sends our replies back, as another server would: it gets %d a second until "
                "it pauses",
                name_of(peer),
                _PER_SECOND,
                event="loop",
                peer=name_of(peer),
            )
        elif not source.run:
            del self._suspects[peer]
            self.alert = bool(self._suspects)
        return source.limited and not self._limit.admit(peer, now)


def _forget(memory: dict[Any, Any], most: int) -> None:
    """Forget what came first, if there is more than is remembered."""
    if len(memory) > most:
        del memory[next(iter(memory))]
