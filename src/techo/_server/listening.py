"""Listening: from an endpoint to bound sockets with accept loops behind them."""

from __future__ import annotations

import errno
import functools
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from techo._nursery import open_bare_nursery
from techo.endpoint import EVERY_INTERFACE, Endpoint

Handler = Callable[[trio.SocketStream], Awaitable[None]]

_NOT_ON_THIS_MACHINE: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_TRIES_FOR_A_COMMON_PORT: Final = 5


async def listen(
    endpoint: Endpoint,
    handler: Handler,
    *,
    backlog: int | None,
    handlers: trio.Nursery,
    task_status: trio.TaskStatus[tuple[Endpoint, ...]],
) -> NoReturn:
    """Accept connections on every address of `endpoint` until cancelled.

    Handlers run in the nursery `handlers` and so outlive the accept loops. Cancellation
    closes the listening sockets. What was bound is handed to `task_status`, one endpoint
    for each socket. With port 0 all addresses share the one port that the kernel picked.

    Raises:
        OSError: the name is unknown or an address can't be bound; `filename` is the endpoint.
    """
    tries = _TRIES_FOR_A_COMMON_PORT if endpoint.port == 0 else 1
    while True:
        tries -= 1
        try:
            async with open_bare_nursery() as loops:
                task_status.started(await _bind(endpoint, handler, backlog, handlers, loops))
        except OSError as error:
            # The port that one family gave may be taken in the other: then ask for another.
            if error.errno != errno.EADDRINUSE or not tries:
                error.filename = str(endpoint)
                raise


async def _bind(
    endpoint: Endpoint,
    handler: Handler,
    backlog: int | None,
    handlers: trio.Nursery,
    loops: trio.Nursery,
) -> tuple[Endpoint, ...]:
    port = endpoint.port
    bound: list[Endpoint] = []
    missing: OSError | None = None

    for host in await _addresses(endpoint):
        serve = functools.partial(
            trio.serve_tcp, handler, port, host=host, backlog=backlog, handler_nursery=handlers
        )
        try:
            (listener,) = await loops.start(serve)
        except OSError as error:
            if error.errno not in _NOT_ON_THIS_MACHINE:
                raise
            missing = error  # such as ::1 where IPv6 is off: one of several will do
            continue
        port = listener.socket.getsockname()[1]
        bound.append(Endpoint(host, port))
    if missing is not None and not bound:
        raise missing
    return tuple(bound)


async def _addresses(endpoint: Endpoint) -> list[str]:
    if endpoint.host == EVERY_INTERFACE:
        return ["0.0.0.0", "::"]  # noqa: S104  -- the user wrote * and means it
    found = await trio.socket.getaddrinfo(
        endpoint.host, endpoint.port, type=trio.socket.SOCK_STREAM
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
