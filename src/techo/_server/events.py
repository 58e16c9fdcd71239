"""Events: the log lines of a connection's life."""

from __future__ import annotations

from typing import Any

import trio

from techo._log import is_noted, note, rejected
from techo._server.connection import Connection, Outcome
from techo._throttle import Throttle


def about(connection: Connection) -> dict[str, Any]:
    """Return the facts that every line about a connection has."""
    name = connection.peer.name
    return {"id": connection.id, "endpoint": connection.endpoint, "peer": name}


def connected(connection: Connection) -> None:
    """Report a connection that was admitted."""
    if is_noted():
        facts = about(connection)
        note("connected %s id=%d", facts["peer"], facts["id"], event="connected", **facts)


def closed(connection: Connection, throttle: Throttle) -> None:
    """Report a connection that is over, with what came of it."""
    if connection.reason and connection.outcome in (Outcome.REFUSED, Outcome.UNREACHABLE):
        kind = "refused", connection.reason, connection.endpoint
        rejected(throttle, kind, connection.peer.name, connection.id)
        return
    if not is_noted():
        return
    facts: dict[str, Any] = {
        "outcome": str(connection.outcome),
        "chunks": connection.chunks,
        "bytes_in": connection.bytes_in,
        "bytes_out": connection.bytes_out,
        "seconds": round(trio.current_time() - connection.opened, 6),
    }
    facts |= connection.carried_by
    text = " ".join(f"{name}={value}" for name, value in facts.items())
    if connection.reason:
        facts["reason"] = connection.reason
        text += f" reason={connection.reason!r}"
    facts |= {"event": "closed", **about(connection)}
    note("closed %s %s id=%d", facts["peer"], text, facts["id"], **facts)
