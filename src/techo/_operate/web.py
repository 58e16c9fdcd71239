"""The web: an ASGI app served by hypercorn in the caller's nursery, within bounds.

Hypercorn speaks HTTP; it takes as many connections as come, and waits for a peer that does not
read for as long as that likes. So accepting and ending them is done here.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, TypeAlias

import attrs
import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import wrap_app

from techo._log import failure

MOST_CONNECTIONS: Final = 32
"""At once: scrapers are few, and one more is closed at once."""

LIFETIME: Final = 10.0
"""Seconds after which a connection is cut, whatever it is doing; see `prolong`."""

_PROLONG: Final = "techo.prolong"
"""Under which the state of an ASGI scope has what prolongs the connection."""

_LARGEST_HEAD: Final = 8192
"""Bytes of a request's head."""

_MISDIRECTED: Final = 421
"""RFC 9110, 15.5.20: this server is not the one that was meant."""

App: TypeAlias = Callable[[Mapping[str, Any], Any, Any], Awaitable[None]]


def host_check(app: App, names: Iterable[str] = ()) -> App:
    """Return an app that refuses requests for a host by another name than these.

    A page on the web could have a browser in this network ask for it under a name that leads
    here (DNS rebinding); an address, or localhost, is no such name.
    """
    known = {"localhost", *(name.lower() for name in names)}

    async def checked(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not _is_known(header(scope, b"host"), known):
            await respond(send, _MISDIRECTED, "ask by an address, or by the name it serves\n")
            return
        await app(scope, receive, send)

    return checked


def header(scope: Mapping[str, Any], wanted: bytes) -> str:
    """Return the first header of that name in lower case; empty if there is none."""
    found: bytes = next((value for name, value in scope["headers"] if name == wanted), b"")
    return found.decode("latin-1")


def _is_known(host: str, known: set[str]) -> bool:
    name, colon, port = host.rpartition(":")
    name = name if colon and port.isdecimal() else host
    if name.lower() in known:
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def prolong(scope: Mapping[str, Any]) -> None:
    """Let a request's connection have `LIFETIME` from now on.

    An app that calls this whenever a part of a long response has been sent is cut off from a
    peer that does not read, and from no other.
    """
    more: Callable[[], None] | None = scope.get("state", {}).get(_PROLONG)
    if more is not None:
        more()


async def respond(
    send: Any,
    status: int,
    text: str | bytes,
    content_type: str = "text/plain; charset=utf-8",
    *,
    more_headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole response."""
    body = text.encode() if isinstance(text, str) else text
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more_headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@attrs.define(eq=False)
class WebServer:
    """Serves one app over HTTP, to few at a time."""

    app: App
    most_connections: int = MOST_CONNECTIONS
    _active: int = 0
    _config: Config = attrs.field(factory=Config, init=False)
    _context: WorkerContext = attrs.field(factory=lambda: WorkerContext(None), init=False)

    def __attrs_post_init__(self) -> None:
        log = logging.getLogger("techo.server.http")
        log.setLevel(logging.ERROR)  # who asks for what is nobody's event
        self._config.errorlog = log
        self._config.include_server_header = False
        self._config.h11_max_incomplete_size = _LARGEST_HEAD
        self._config.keep_alive_timeout = LIFETIME

    async def serve(
        self,
        host: str | None,
        port: int,
        *,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Serve on an address until cancelled, which cuts every connection; None is all.

        With ``await nursery.start(server.serve, host, port)`` it returns the address, with the
        real port.

        Raises:
            OSError: the address can't be had.
        """
        listeners = await trio.open_tcp_listeners(
            port, host=host, backlog=self.most_connections
        )
        name = listeners[0].socket.getsockname()
        task_status.started((name[0], name[1]))
        await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            if self._active >= self.most_connections:
                return
            self._active += 1
            life = trio.CancelScope(deadline=trio.current_time() + LIFETIME)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cut_in_time, stream, life)
                    await self._converse(stream, life)
                    nursery.cancel_scope.cancel(reason="the connection is over")
            finally:
                self._active -= 1

    async def _converse(self, stream: trio.SocketStream, life: trio.CancelScope) -> None:
        def prolong_it() -> None:
            life.deadline = trio.current_time() + LIFETIME

        app = wrap_app(self.app, self._config.wsgi_max_body_size, "asgi")
        state = ConnectionState(LifespanState({_PROLONG: prolong_it}))
        try:
            server = TCPServer(
                app,
                self._config,
                self._context,
                state,
                stream,  # type: ignore[arg-type]  # it asks whether that is TLS, as announced
            )
            await server.run()
        except Exception:  # noqa: BLE001  -- a bug; the service that is watched goes on
            failure("a page could not be served")


async def _cut_in_time(stream: trio.SocketStream, life: trio.CancelScope) -> None:
    """End a connection when it has had its time, or when the server ends.

    What sends to it waits behind a shield, and is woken by this.
    """
    try:
        with life:
            await trio.sleep_forever()
    finally:
        with contextlib.suppress(OSError):  # it is over already
            stream.socket.shutdown(socket.SHUT_RDWR)
