"""The page of a watch: its app, served on an address to who may see it (extra "metrics")."""

from __future__ import annotations

from typing import Final, NoReturn

import trio

from techo._operate.web import WebServer, host_check
from techo._watch.feed import Feed
from techo._watch.web_access import VARIABLE, is_loopback, require_token
from techo._watch.web_app import MOST_LISTENERS, Expose, WatchApp

MOST_CONNECTIONS: Final = 8 * MOST_LISTENERS
"""A browser has six to one server, and scrapers need some."""


async def serve_web(  # noqa: ASYNC128  -- `WebServer.serve` calls it
    feed: Feed,
    host: str | None,
    port: int,
    *,
    token: str | None = None,
    expose: Expose | None = None,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve the page until cancelled; None is every address.

    Without a token it must be a loopback address, and is asked for by an address, localhost
    or `host` only. With one, whoever asks needs it.

    Raises:
        ValueError: it is another address, and there is no token.
        OSError: the address can't be had.
    """
    app = WatchApp(feed, expose)
    if token is not None:
        guarded = require_token(app, token)
    elif is_loopback(host):
        guarded = host_check(app, [] if host is None else [host])
    else:
        raise ValueError(
            f"{'every address' if host is None else host} can be reached from other machines, "
            f"so that the page needs a token: --web-token FILE, or {VARIABLE}"
        )
    server = WebServer(guarded, MOST_CONNECTIONS)
    await server.serve(host, port, task_status=task_status)
