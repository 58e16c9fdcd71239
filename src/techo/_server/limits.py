"""Limits: how long, how many and how much a server lets its peers have."""

from __future__ import annotations

import math
from typing import Any

import attrs

from techo._validation import COUNT, FLAG, SECONDS_ABOVE_0, SECONDS_FROM_0, Requirement, whole

LARGEST_RECEIVE_SIZE = 2**24
"""Bytes; every connection may hold one chunk of this size and its reply."""


def _limit(default: Any, requirement: Requirement, unit: str, meaning: str) -> Any:
    return attrs.field(
        default=default, validator=requirement, metadata={"unit": unit, "meaning": meaning}
    )


def _choice(words: tuple[str, ...], meaning: str) -> Any:
    """Return the field for one of a few words, of which the first is the default."""
    requirement = Requirement(" or ".join(words), lambda value: value in words)
    metadata = {"unit": "", "meaning": meaning, "choices": words}
    return attrs.field(default=words[0], validator=requirement, metadata=metadata)


@attrs.frozen(kw_only=True)
class Limits:
    """What a server allows. Times are seconds, `math.inf` where one is switched off.

    Each field says in its metadata what it means and in which unit it counts. `help` shows
    that below, and the command line's help is made from it.

    Raises:
        ValueError: a value out of range; the text names the field and the value.
    """

    idle_timeout: float = _limit(
        60.0,
        SECONDS_ABOVE_0.or_off(math.inf),
        "s",
        "end a connection on which no byte moved in either direction for this long",
    )
    handshake_timeout: float = _limit(
        10.0,
        SECONDS_ABOVE_0.or_off(math.inf),
        "s",
        "end a connection whose TLS handshake takes longer than this",
    )
    lifetime: float = _limit(
        math.inf,
        SECONDS_ABOVE_0.or_off(math.inf),
        "s",
        "end a connection this long after it began, busy or not",
    )
    max_connections: int = _limit(10_000, COUNT, "connections", "how many are served at once")
    when_full: str = _choice(
        ("refuse", "park"),
        "what happens to connections beyond that: they are refused, or parked, which is to "
        "wait unread for a place, the oldest first, for as long as a handshake may take",
    )
    max_parked: int = _limit(
        1000, COUNT, "connections", "how many may be parked; beyond that they are refused"
    )
    max_per_host: int | None = _limit(
        None,
        COUNT.or_off(),
        "connections",
        "how many connections of one peer address, or of one /64 of IPv6, at once",
    )
    max_handshakes: int = _limit(
        1000,
        COUNT,
        "connections",
        "how many TLS handshakes may be in progress, at 60 KB each; the oldest makes room",
    )
    drain_timeout: float = _limit(
        5.0,
        SECONDS_FROM_0.or_off(math.inf),
        "s",
        "how long busy connections may go on after the drain has begun",
    )
    close_timeout: float = _limit(
        1.0,
        SECONDS_FROM_0,
        "s",
        "how long to wait, after half-closing, for the peer to close too",
    )
    receive_size: int = _limit(
        65_536,
        whole(1, LARGEST_RECEIVE_SIZE),
        "bytes",
        "the most that is received as one chunk. Where the reply does not depend on chunks "
        "(raw), it is up to 4 times that from a peer which has read a MiB",
    )
    backlog: int | None = _limit(
        None, COUNT.or_off(), "connections", "how many may wait in the kernel to be accepted"
    )
    max_datagrams_per_second: int | None = _limit(
        None,
        COUNT.or_off(),
        "datagrams",
        "answer no more than this many datagrams a second from one address, or from one /64",
    )
    loop_guard: bool = _limit(
        True,
        FLAG,
        "",
        "drop datagrams from our own ports and from ports of services that answer everything, "
        "such as other echoes",
    )
