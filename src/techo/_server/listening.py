"""Listening: from an endpoint to bound sockets with accept loops behind them."""

from __future__ import annotations

import errno
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import attrs
import trio

from techo._nursery import open_bare_nursery
from techo._packets import PacketListener, PacketStream
from techo._server import inherited, unix_paths
from techo.endpoint import EVERY_INTERFACE, Endpoint, Kind

Handler = Callable[[trio.abc.Stream], Awaitable[None]]
"""What serves one connection."""

_NOT_ON_THIS_MACHINE: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_TRIES_FOR_A_COMMON_PORT: Final = 5
_LARGEST_BACKLOG: Final = 0xFFFF
"""As many as the kernel allows, which cuts it down: what trio asks for too."""

_TYPES: Final = {
    Kind.UNIX: socket.SOCK_STREAM,
    Kind.UNIXGRAM: socket.SOCK_DGRAM,
    Kind.UNIXPACKET: socket.SOCK_SEQPACKET,
}


@attrs.frozen
class Listening:
    """How all sockets of one `serve` are served."""

    handler: Handler
    """For every connection."""
    answer_datagrams: Callable[[socket.socket], Awaitable[NoReturn]]
    """For every datagram socket."""
    handlers: trio.Nursery
    """Where handlers run, so that they outlive the accept loops."""
    backlog: int | None
    tls: ssl.SSLContext | None
    begin_tls: Handler | None
    """Serves a connection of a tls endpoint from before TLS; None leaves TLS to trio."""
    check: Callable[[Endpoint], None]
    """Raises a ValueError where an endpoint cannot be served."""
    unix_mode: int | None

    async def on(
        self,
        endpoint: Endpoint,
        *,
        task_status: trio.TaskStatus[tuple[Endpoint, ...]],
    ) -> NoReturn:
        """Serve every address of `endpoint` until cancelled.

        Cancellation closes the listening sockets and removes what paths they had. What was
        bound is handed to `task_status`, one endpoint for each socket. With port 0 all
        addresses share the one port that the kernel picked.

        Raises:
            ValueError: a tls endpoint, but no certificate to show.
            OSError: the name is unknown or an address can't be bound; `filename` is the
                endpoint.
        """
        if endpoint.kind is Kind.TLS and self.tls is None:
            raise ValueError(f"{endpoint} needs a certificate: an ssl.SSLContext as tls")
        if endpoint.kind is not Kind.FD:
            self.check(endpoint)
        tries = _TRIES_FOR_A_COMMON_PORT if endpoint.host and endpoint.port == 0 else 1
        while True:
            tries -= 1
            try:
                async with open_bare_nursery() as loops:
                    task_status.started(await self._start(endpoint, loops))
            except OSError as error:
                # The port that one family gave may be taken in the other: then ask for another.
                if error.errno != errno.EADDRINUSE or not tries:
                    error.filename = str(endpoint)
                    raise

    async def _start(self, endpoint: Endpoint, loops: trio.Nursery) -> tuple[Endpoint, ...]:
        """Start the loops of every address of `endpoint`; give what was bound."""
        if endpoint.kind is Kind.FD:
            return (await loops.start(self._serve_inherited, endpoint),)
        if endpoint.path:
            return (await loops.start(self._serve_path, endpoint),)
        start = self._start_udp if endpoint.kind is Kind.UDP else self._start_tcp
        bound: list[Endpoint] = []
        missing: OSError | None = None
        for host in await _addresses(endpoint):
            port = bound[0].port if bound else endpoint.port
            try:
                port = await start(attrs.evolve(endpoint, host=host, port=port), loops)
            except OSError as error:
                if error.errno not in _NOT_ON_THIS_MACHINE:
                    raise
                missing = error  # such as ::1 where IPv6 is off: one of several will do
                continue
            bound.append(attrs.evolve(endpoint, host=host, port=port))
        if missing is not None and not bound:
            raise missing
        return tuple(bound)

    async def _start_tcp(self, endpoint: Endpoint, loops: trio.Nursery) -> int:
        serve: Callable[..., Awaitable[None]] = trio.serve_tcp
        handler = self.handler
        if endpoint.kind is Kind.TLS and self.begin_tls is not None:
            handler = self.begin_tls
        elif endpoint.kind is Kind.TLS and self.tls is not None:
            serve = functools.partial(trio.serve_ssl_over_tcp, ssl_context=self.tls)
        options = {
            "host": endpoint.host,
            "backlog": self.backlog,
            "handler_nursery": self.handlers,
        }
        start = functools.partial(serve, handler, endpoint.port, **options)
        (listener,) = await loops.start(start)
        if isinstance(listener, trio.SSLListener):
            listener = listener.transport_listener
        return int(listener.socket.getsockname()[1])

    async def _start_udp(self, endpoint: Endpoint, loops: trio.Nursery) -> int:
        port: int = await loops.start(self._serve_udp, endpoint)
        return port

    async def _serve_udp(
        self, endpoint: Endpoint, task_status: trio.TaskStatus[int]
    ) -> NoReturn:
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if family == socket.AF_INET6:  # or IPv4's wildcard would be in the way
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((endpoint.host, endpoint.port))
            task_status.started(sock.getsockname()[1])
            await self._serve_socket(sock)

    async def _serve_path(
        self, endpoint: Endpoint, task_status: trio.TaskStatus[Endpoint]
    ) -> NoReturn:
        with unix_paths.bound(endpoint.path, _TYPES[endpoint.kind], self.unix_mode) as sock:
            if endpoint.kind is not Kind.UNIXGRAM:
                sock.listen(_LARGEST_BACKLOG if self.backlog is None else self.backlog)
            task_status.started(endpoint)
            await self._serve_socket(sock)

    async def _serve_inherited(
        self, endpoint: Endpoint, task_status: trio.TaskStatus[Endpoint]
    ) -> NoReturn:
        assert endpoint.descriptor is not None  # noqa: S101  -- `Endpoint` has seen to it
        with inherited.adopt(endpoint.descriptor) as sock:
            found = inherited.endpoint_of(sock)
            self.check(found)
            task_status.started(found)
            await self._serve_socket(sock)

    async def _serve_socket(self, sock: socket.socket) -> NoReturn:
        """Serve a bound socket of any type, which whoever opened it closes."""
        if sock.type == socket.SOCK_DGRAM:
            await self.answer_datagrams(sock)
        ours = trio.socket.from_stdlib_socket(sock)
        listener: trio.abc.Listener[PacketStream] | trio.abc.Listener[trio.SocketStream]
        if sock.type == socket.SOCK_SEQPACKET:
            listener = PacketListener(ours)
        else:
            listener = trio.SocketListener(ours)
        await trio.serve_listeners(self.handler, [listener], handler_nursery=self.handlers)


async def _addresses(endpoint: Endpoint) -> list[str]:
    if endpoint.host == EVERY_INTERFACE:
        return ["0.0.0.0", "::"]  # noqa: S104  -- the user wrote * and means it
    found = await trio.socket.getaddrinfo(
        endpoint.host, endpoint.port, type=trio.socket.SOCK_STREAM
    )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
