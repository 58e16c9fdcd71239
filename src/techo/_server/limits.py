"""Limits: how long, how many and how much a server lets its peers have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

_Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]

LARGEST_RECEIVE_SIZE = 2**24
"""Bytes; every connection may hold one chunk of this size and its reply."""


def _seconds(*, zero: bool, off: bool) -> _Validator:
    def check(_limits: object, field: attrs.Attribute[Any], value: Any) -> None:
        good = isinstance(value, int | float) and (value > 0 or (zero and value == 0))
        if not good or (value == math.inf and not off):
            least = "0 s or more" if zero else "more than 0 s"
            remedy = ", or off (math.inf)" if off else " and finite"
            raise ValueError(f"{field.name} must be {least}{remedy}; got {value!r}")

    return check


def _count(most: int | None = None) -> _Validator:
    def check(_limits: object, field: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, int) or value < 1 or (most is not None and value > most):
            bound = "a whole number from 1" + ("" if most is None else f" to {most}")
            raise ValueError(f"{field.name} must be {bound}; got {value!r}")

    return check


def _limit(default: Any, validator: _Validator, unit: str, meaning: str) -> Any:
    if default is None:
        validator = attrs.validators.optional(validator)
    return attrs.field(
        default=default, validator=validator, metadata={"unit": unit, "meaning": meaning}
    )


@attrs.frozen(kw_only=True)
class Limits:
    """What a server allows. Times are seconds, `math.inf` where one is switched off.

    Each field says in its metadata what it means and in which unit it counts; the
    command line's help is made from that.

    Raises:
        ValueError: a value out of range; the text names the field and the value.
    """

    idle_timeout: float = _limit(
        60.0,
        _seconds(zero=False, off=True),
        "s",
        "end a connection on which no byte moved in either direction for this long",
    )
    handshake_timeout: float = _limit(
        10.0,
        _seconds(zero=False, off=True),
        "s",
        "end a connection whose TLS handshake takes longer than this",
    )
    lifetime: float = _limit(
        math.inf,
        _seconds(zero=False, off=True),
        "s",
        "end a connection this long after it began, busy or not",
    )
    max_connections: int = _limit(
        10_000, _count(), "connections", "close whatever is accepted beyond this many at once"
    )
    max_per_host: int | None = _limit(
        None, _count(), "connections", "the same for the connections of one peer address"
    )
    drain_timeout: float = _limit(
        5.0,
        _seconds(zero=True, off=True),
        "s",
        "how long busy connections may go on after the server was told to stop",
    )
    close_timeout: float = _limit(
        1.0,
        _seconds(zero=True, off=False),
        "s",
        "how long to wait, after half-closing, for the peer to close too",
    )
    receive_size: int = _limit(
        65_536,
        _count(LARGEST_RECEIVE_SIZE),
        "bytes",
        "the most that is received as one chunk; where the reply tells no chunks apart (raw), "
        "up to 4 times that from a peer which has read a MiB",
    )
    backlog: int | None = _limit(
        None, _count(), "connections", "how many may wait in the kernel to be accepted"
    )
    max_datagrams_per_second: int | None = _limit(
        None,
        _count(),
        "datagrams",
        "answer no more than this many datagrams a second from one address",
    )
    loop_guard: bool = _limit(
        True,
        attrs.validators.instance_of(bool),
        "",
        "drop datagrams from our own ports and from ports of services that answer everything, "
        "such as other echoes",
    )
