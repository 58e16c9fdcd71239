"""Events: the server's log lines. A log that raises ends no connection."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from typing import Any, Final

import trio

from techo._server.connection import Connection

_log = logging.getLogger("techo.server")

_safely: Final = contextlib.suppress(Exception)
"""Filters and handlers of a log are user code, which may raise anything."""

_PAUSE: Final = 60.0
"""Seconds between two lines about the same shortage."""

_DESCRIPTORS: Final = {errno.EMFILE, errno.ENFILE}
_MEMORY: Final = {errno.ENOMEM, errno.ENOBUFS}

_last: dict[str, float] = {}
"""When each shortage of this process was last reported."""


def connected(connection: Connection) -> None:
    """Report a connection that was admitted."""
    if _log.isEnabledFor(logging.INFO):
        extra = {"event": "connected", "peer": connection.peer.name}
        with _safely:
            _log.info("connected %s", connection.peer.name, extra=extra)


def closed(connection: Connection) -> None:
    """Report a connection that is over, with what came of it."""
    if not _log.isEnabledFor(logging.INFO):
        return
    facts: dict[str, Any] = {
        "outcome": str(connection.outcome),
        "chunks": connection.chunks,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "seconds": round(trio.current_time() - connection.opened, 6),
    }
    text = " ".join(f"{name}={value}" for name, value in facts.items())
    if connection.reason:
        facts["reason"] = connection.reason
        text += f" reason={connection.reason!r}"
    extra = {"event": "closed", "peer": connection.peer.name, **facts}
    with _safely:
        _log.info("closed %s %s", connection.peer.name, text, extra=extra)


def detail(text: str, *values: object) -> None:
    """Log what only helps to find out why something happens."""
    with _safely:
        _log.debug(text, *values)


def warning(text: str, *values: object) -> None:
    """Log what somebody should look at."""
    with _safely:
        _log.warning(text, *values)


def failure(text: str, *values: object) -> None:
    """Log the present exception with its traceback."""
    with _safely:
        _log.exception(text, *values)


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
    if now - _last.get(kind, -_PAUSE) >= _PAUSE:
        _last[kind] = now
        with _safely:
            _log.error("%s Logged once a minute.", text, extra={"event": "shortage"})
