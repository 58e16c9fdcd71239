"""Health: whether a service is alive and ready, and its metrics, as pages."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from techo._operate.web import header, respond


class State(enum.Enum):
    """How far a service has come, once it is listening."""

    READY = "ready"
    LEAVING = "leaving"
    """It still accepts, but nobody should send anybody to it any more."""
    DRAINING = "draining"


@attrs.define(eq=False)
class HealthApp:
    """An ASGI app with /healthz, /readyz and /metrics."""

    expose: Callable[[str], tuple[bytes, str]]
    """Makes the metrics, for an Accept header."""
    state: State

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Respond to one request."""
        del receive
        if scope["type"] != "http":
            return  # there is nothing to do at the start and the end
        path, method = scope["path"], scope["method"]
        if path not in ("/metrics", "/healthz", "/readyz"):
            await respond(send, 404, "there are /metrics, /healthz and /readyz\n")
        elif method not in ("GET", "HEAD"):
            await respond(send, 405, "this can only be read\n")
        elif path == "/metrics":
            await respond(send, 200, *self.expose(header(scope, b"accept")))
        elif path == "/readyz" and self.state is not State.READY:
            await respond(send, 503, f"{self.state.value}\n")
        else:
            await respond(send, 200, "ready\n" if path == "/readyz" else "alive\n")
