"""The log of a server: lines with their facts, throttled where peers choose how many there are.

A log that raises ends no connection: filters and handlers are user code.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from typing import Any, Final, TypeAlias

from techo._addresses import text_of
from techo._throttle import PAUSE, Throttle

_log = logging.getLogger("techo.server")

_DESCRIPTORS: Final = {errno.EMFILE, errno.ENFILE}
_MEMORY: Final = {errno.ENOMEM, errno.ENOBUFS}

_last: dict[str, float] = {}
"""When each shortage of this process was last reported."""

Kind: TypeAlias = tuple[str, str, str]
"""Of what was turned away: ``refused`` or ``dropped``, why, and at which endpoint."""


def is_noted() -> bool:
    """Return whether `note` has a reader."""
    return _log.isEnabledFor(logging.INFO)


def is_detailed() -> bool:
    """Return whether `detail` has a reader."""
    return _log.isEnabledFor(logging.DEBUG)


def _write(level: int, text: str, values: tuple[object, ...], facts: dict[str, Any]) -> None:
    error = facts.pop("error", False)
    extra = {name: value for name, value in facts.items() if value != ""}
    with contextlib.suppress(Exception):
        _log.log(level, text, *values, exc_info=error, extra=extra)


def note(text: str, *values: object, **facts: Any) -> None:
    """Log what happens in the life of a server or a connection."""
    _write(logging.INFO, text, values, facts)


def draining(connections: int) -> str:
    """Return how to say that so many connections are being drained."""
    return f"draining {connections} connection{'s' * (connections != 1)}"


def detail(text: str, *values: object, **facts: Any) -> None:
    """Log what only helps to find out why something happens."""
    _write(logging.DEBUG, text, values, facts)


def warning(text: str, *values: object, **facts: Any) -> None:
    """Log what somebody should look at."""
    _write(logging.WARNING, text, values, facts)


def failure(text: str, *values: object, **facts: Any) -> None:
    """Log the present exception with its traceback."""
    _write(logging.ERROR, text, values, {"event": "failure", "error": True, **facts})


def name_of(peer: Any) -> str:
    """Return what to call a peer: its address as people write it, or the name that it has."""
    return text_of(peer) if isinstance(peer, tuple | bytes) else str(peer)


def rejected(throttle: Throttle | None, kind: Kind, peer: Any, number: int) -> bool:
    """Report what was turned away, unless much is; return whether it was the first.

    Without a throttle it was on purpose, and is only a detail.
    """
    event, cause, endpoint = kind
    first = throttle is not None and throttle.note(kind, peer)
    if first or is_detailed():
        name = name_of(peer)
        facts = {"event": event, "cause": cause, "endpoint": endpoint, "peer": name}
        write = warning if first else detail
        write("%s; %s %s", cause, event, name, id=number, **facts)
    return first


def summed_up(kind: Kind, peer: Any, count: int, seconds: float) -> None:
    """Report how much of a kind was turned away, and who was last."""
    event, cause, endpoint = kind
    facts = {"event": event, "cause": cause, "endpoint": endpoint, "peer": name_of(peer)}
    warning(
        "%s; %d %s in the last %d s, the last from %s",
        *(cause, count, event, max(1, round(seconds)), facts["peer"]),
        **facts,
        count=count,
        seconds=round(seconds, 3),
    )


def shortage(error: BaseException | None) -> bool:
    """Return whether an error is about too little of something; log one a minute of a kind."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, MemoryError) or number in _MEMORY:
            _log_shortage(
                "too little memory for all connections: some are aborted or have to wait; the "
                "others are served on. Lower max_connections, or give it more."
            )
            return True
        if number in _DESCRIPTORS:
            _log_shortage(
                f"cannot accept connections now: {error}; the others are served on. Raise the "
                "limit (ulimit -n) or lower max_connections."
            )
            return True
        error = error.__cause__
    return False


def _log_shortage(text: str) -> None:
    now, kind = time.monotonic(), text[:10]
    if now - _last.get(kind, -PAUSE) >= PAUSE:
        _last[kind] = now
        facts = {"event": "shortage"}
        _write(logging.ERROR, "%s Logged once a minute.", (text,), facts)
