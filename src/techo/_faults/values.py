"""Faults: what is to go wrong, to which connections, and from which byte on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import attrs

from techo._validation import COUNT, NATURAL, SECONDS_FROM_0, SHARE, Requirement, whole

STREAMS: Final = frozenset({"tcp", "tls", "mptcp", "unix", "memory"})
MESSAGES: Final = frozenset({"udp", "ip", "unixgram", "unixpacket"})
"""What keeps messages apart."""
DATAGRAMS: Final = frozenset({"udp", "ip", "unixgram"})
CONNECTIONS: Final = STREAMS | {"unixpacket"}
EVERYTHING: Final = STREAMS | MESSAGES


def _is_window(value: Any) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004  -- it begins and ends
        return False
    begin, end = value
    if any(SECONDS_FROM_0.missing(each) for each in (begin, 0 if end == math.inf else end)):
        return False
    return bool(begin < end)


_WINDOW: Final = Requirement(
    "a pair of seconds from 0, the second above the first, such as (5, 10) or (5, math.inf)",
    _is_window,
).or_off()


@attrs.frozen(repr=False)
class Fault:
    """What all faults have in common; each is a value that says what goes wrong.

    Where connections are spoken of, a server of datagrams takes each datagram for one.

    Raises:
        ValueError: a field out of range; the text names it and the value.
    """

    transports: ClassVar[frozenset[str]] = EVERYTHING
    """The kinds of endpoint that it can happen on, and ``memory``."""

    probability: float = attrs.field(default=1.0, validator=SHARE, kw_only=True)
    """That it happens to a connection, 0 to 1; the seed decides to which."""
    every: int = attrs.field(default=1, validator=COUNT, kw_only=True)
    """It happens to every nth connection only, of those that are not skipped."""
    first: int | None = attrs.field(default=None, validator=COUNT.or_off(), kw_only=True)
    """It happens to so many connections and then to no more; None sets no bound."""
    skip: int = attrs.field(default=0, validator=NATURAL, kw_only=True)
    """It does not happen to so many connections in the beginning."""
    between: tuple[float, float] | None = attrs.field(
        default=None, validator=_WINDOW, kw_only=True
    )
    """From when and until when a connection has to be accepted: seconds since the server has
    begun to listen, in the run's clock. The others are not counted either. None is always."""
    offset: int = attrs.field(default=0, validator=NATURAL, kw_only=True)
    """It begins when this many bytes of replies have been sent. What does not happen to
    replies has none, nor have datagrams."""

    typed: str = attrs.field(default="", kw_only=True, eq=False, repr=False)
    """The text that it was read from, if it was; what messages call it then."""

    has_offset: ClassVar[bool] = True

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are not as they would be by themselves: what was asked for."""
        fields = [each for each in attrs.fields(type(self)) if each.eq]
        # What is the fault's own comes first, as when it is written.
        return {
            each.name: value
            for each in sorted(fields, key=lambda each: bool(each.kw_only))
            if (value := getattr(self, each.name)) != self._by_itself(each.default)
        }

    def _by_itself(self, default: Any) -> Any:
        return default.factory(self) if hasattr(default, "factory") else default

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.given.items())
        return f"{type(self).__name__}({given})"

    def __str__(self) -> str:
        return self.typed or repr(self)

    def __attrs_post_init__(self) -> None:
        if self.offset and not self.has_offset:
            name = type(self).__name__
            raise ValueError(f"offset {self.offset!r} is not 0: {name} has no offset")


@attrs.frozen(repr=False)
class Delay(Fault):
    """Each reply is held for some time before it is sent."""

    seconds: float = attrs.field(validator=SECONDS_FROM_0)
    """How long after what it answers a reply leaves."""
    jitter: float = attrs.field(default=0.0, validator=SECONDS_FROM_0)
    """Seconds more or less, each as likely."""


@attrs.frozen(repr=False)
class Throttle(Fault):
    """Replies leave at a limited rate."""

    transports = CONNECTIONS

    bytes_per_second: int = attrs.field(validator=whole(1))
    """The rate of each connection."""


@attrs.frozen(repr=False)
class SlowAccept(Fault):
    """Nothing happens for some time after a connection was accepted, TLS included."""

    transports = CONNECTIONS
    has_offset = False

    seconds: float = attrs.field(validator=SECONDS_FROM_0)
    """How long nothing happens."""


@attrs.frozen(repr=False)
class Stall(Fault):
    """After some bytes nothing more is sent, until a limit ends the connection."""

    transports = CONNECTIONS

    after: int = attrs.field(default=0, validator=whole(0))
    """Bytes of replies that are sent before."""


@attrs.frozen(repr=False)
class SlowClose(Fault):
    """The server delays its end-of-file."""

    transports = CONNECTIONS
    has_offset = False

    seconds: float = attrs.field(validator=SECONDS_FROM_0)
    """By how much the end is delayed."""


@attrs.frozen(repr=False)
class Chunk(Fault):
    """Replies are sent in small pieces."""

    transports = STREAMS

    least: int = attrs.field(default=1, validator=whole(1))
    """Bytes in a piece, at the least."""
    most: int = attrs.field(
        default=attrs.Factory(lambda self: self.least, takes_self=True), validator=whole(1)
    )
    """Bytes in a piece, from `least` to `most`."""

    @most.validator
    def _check_most(self, _field: object, _most: int) -> None:
        whole(self.least).check(most=self.most)


@attrs.frozen(repr=False)
class Truncate(Fault):
    """After some bytes a stream ends; a message is cut to that many."""

    after: int = attrs.field(validator=whole(0))
    """Bytes that are sent of a stream, or of a message."""


@attrs.frozen(repr=False)
class Corrupt(Fault):
    """Bytes are replaced by others."""

    rate: float = attrs.field(validator=SHARE)
    """Share of the bytes."""


@attrs.frozen(repr=False)
class Lengthen(Fault):
    """Each reply has more bytes at its end than it should."""

    by: int = attrs.field(default=1, validator=whole(1))
    """Bytes too many in each reply."""


@attrs.frozen(repr=False)
class Reset(Fault):
    """After some bytes the connection is broken, and what is in flight is lost."""

    # A Unix socket knows no reset.
    transports = frozenset({"tcp", "tls", "mptcp", "memory"})

    after: int = attrs.field(default=0, validator=whole(0))
    """Bytes of replies that are sent before."""


@attrs.frozen(repr=False)
class CloseUnread(Fault):
    """The connection is closed at once, without reading anything."""

    transports = CONNECTIONS
    has_offset = False


@attrs.frozen(repr=False)
class HalfCloseFirst(Fault):
    """The server half-closes at once; it reads on, and answers nothing."""

    transports = CONNECTIONS - {"tls"}  # which knows no half-close
    has_offset = False


@attrs.frozen(repr=False)
class IgnoreEnd(Fault):
    """When the peer has finished, nothing happens until a limit ends the connection."""

    transports = CONNECTIONS - {"tls"}
    has_offset = False


@attrs.frozen(repr=False)
class NeverRead(Fault):
    """Nothing is received, until a limit ends the connection."""

    transports = CONNECTIONS
    has_offset = False


@attrs.frozen(repr=False)
class Refuse(Fault):
    """The connection is closed as if there were too many; give `every` for every nth."""

    transports = CONNECTIONS
    has_offset = False


@attrs.frozen(repr=False)
class DropReply(Fault):
    """Messages are not answered."""

    transports = MESSAGES

    rate: float = attrs.field(default=1.0, validator=SHARE)
    """Share of the messages."""


@attrs.frozen(repr=False)
class DuplicateReply(Fault):
    """Messages are answered twice."""

    transports = MESSAGES

    rate: float = attrs.field(default=1.0, validator=SHARE)
    """Share of the messages."""


@attrs.frozen(repr=False)
class ReorderReplies(Fault):
    """Answers are held back until later ones were sent, or for a second at the most."""

    transports = MESSAGES

    rate: float = attrs.field(default=0.5, validator=SHARE)
    """Share of the messages."""
    depth: int = attrs.field(default=1, validator=whole(1))
    """How many later answers go first."""


@attrs.frozen(repr=False)
class NeverHandshake(Fault):
    """The TLS handshake does not begin, until `Limits.handshake_timeout` is over."""

    transports = frozenset({"tls"})
    has_offset = False


@attrs.frozen(repr=False)
class NoCloseNotify(Fault):
    """TLS ends without its closing message, as if the connection had failed."""

    transports = frozenset({"tls"})
    has_offset = False


@attrs.frozen(repr=False)
class ExpiredCertificate(Fault):
    """The certificate ran out yesterday."""

    transports = frozenset({"tls"})
    has_offset = False

    authority: Any = None
    """The `trustme.CA` that issues it; None creates one that no client trusts."""


@attrs.frozen(repr=False)
class WrongName(Fault):
    """The certificate is for another name: wrong.example."""

    transports = frozenset({"tls"})
    has_offset = False

    authority: Any = None
    """The `trustme.CA` that issues it; None creates one that no client trusts."""


@attrs.frozen
class FaultEvent:
    """A fault that was put into effect."""

    connection: int
    """Which connection, or datagram: they are counted from 1."""
    offset: int
    """How many bytes of replies it had been sent."""
    time: float
    """Seconds since it was accepted, in the run's clock."""
    fault: Fault
    """What was done."""


FAULTS: Final = Requirement(
    "a list of faults of techo.testing",
    lambda value: isinstance(value, Sequence),
    also=Requirement(
        "only faults of techo.testing, such as Reset()",
        lambda value: all(isinstance(each, Fault) for each in value),
    ),
)
