"""Listening: from an endpoint or an open listener to accept loops."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

import attrs
import trio

from techo._addresses import SOCKET_TYPES
from techo._log import shortage
from techo._nursery import open_bare_nursery
from techo._raw.serving import open_bound
from techo._server import sockets
from techo._shortage import look_up
from techo.endpoint import EVERY_INTERFACE, INHERITED, SECURE, Endpoint, Kind, host_of

Serve: TypeAlias = Callable[[Any, str], Awaitable[None]]
"""What serves one connection, a trio stream or a transport, accepted at an endpoint."""

Listener: TypeAlias = trio.abc.Listener[Any]
"""What accepts connections already."""

_BY_TRIO: Final = {Kind.TCP, Kind.TLS}
"""Kinds whose listeners trio opens."""

_BENEATH_TLS: Final = {Kind.TCP, Kind.MPTCP}

NOT_ON_THIS_MACHINE: Final = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
"""Errors of one address of several, without which the others do."""

TRIES_FOR_A_COMMON_PORT: Final = 5

_SHORTAGE_PAUSE: Final = 0.1
"""Seconds until accepting is tried again while descriptors or memory are used up."""

LARGEST_BACKLOG: Final = 0xFFFF
"""As many as the kernel allows, which reduces it: what trio asks for too."""


@attrs.frozen(kw_only=True)
class Listening:
    """How all sockets of one `serve` are served."""

    handler: Serve
    """For every connection."""
    tls_handler: Serve
    """For every connection of a tls endpoint, from before its handshake."""
    answer_datagrams: Callable[[socket.socket], Awaitable[NoReturn]]
    """For every datagram socket."""
    handlers: trio.Nursery
    """Where handlers run, so that they outlive the accept loops."""
    backlog: int | None
    tls: ssl.SSLContext | None
    unix_mode: int | None
    check: Callable[..., None]
    """Raises a ValueError if a kind of transport cannot be served; takes its name, too, and
    whether a listener is `secure` by itself."""
    opened: Callable[[socket.socket | trio.socket.SocketType], None]
    """Is called with every socket that is bound."""

    async def on(
        self,
        place: Endpoint | Listener,
        *,
        task_status: trio.TaskStatus[tuple[Endpoint, ...]],
    ) -> NoReturn:
        """Serve every address of an endpoint, or an open listener, until cancelled.

        Cancellation closes the listening sockets and removes what paths they had. What was
        bound is reported by `task_status`, one endpoint for each socket. With port 0 all
        addresses share the one port that the kernel picked.

        Raises:
            ValueError: a tls endpoint, but no server's context, or no TCP listener.
            OSError: the name is unknown or an address can't be bound; `filename` is the
                endpoint.
        """
        if not isinstance(place, Endpoint):
            found = self._checked(place)
            task_status.started(found)
            await self._accept_from(place, self.handler, found[0] if found else None)
        if place.kind in SECURE:
            self._check_tls(place)
        if place.kind not in INHERITED:
            self.check(place.kind, place)
        tries = TRIES_FOR_A_COMMON_PORT if place.host and place.port == 0 else 1
        while True:
            tries -= 1
            try:
                async with open_bare_nursery() as loops:
                    task_status.started(await self._start(place, loops))
            except OSError as error:
                # The port that one family gave may be taken in the other: then ask for another.
                if error.errno != errno.EADDRINUSE or not tries:
                    error.filename = str(place)
                    raise

    def _check_tls(self, endpoint: Endpoint) -> None:
        if self.tls is None:
            raise ValueError(f"{endpoint} needs a certificate: an ssl.SSLContext as tls")
        try:  # or a client's context would be refused at every connection
            self.tls.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        except ssl.SSLError as error:
            raise ValueError(f"{endpoint} needs a server's context as tls: {error}") from None

    async def _start(self, endpoint: Endpoint, loops: trio.Nursery) -> tuple[Endpoint, ...]:
        """Start the loops of every address of `endpoint`; return what was bound."""
        if endpoint.descriptor is not None:
            return (await loops.start(self._serve_inherited, endpoint),)
        if endpoint.path:
            return (await loops.start(self._serve_path, endpoint),)
        bound: list[Endpoint] = []
        missing: OSError | None = None
        for host in await addresses(endpoint):
            port = bound[0].port if bound else endpoint.port
            one = attrs.evolve(endpoint, host=host, port=port)
            try:
                if one.kind in _BY_TRIO:
                    bound.append(await self._start_tcp(one, loops))
                else:
                    bound.append(await loops.start(self._serve_address, one))
            except OSError as error:
                if error.errno not in NOT_ON_THIS_MACHINE:
                    raise
                missing = error  # such as ::1 where IPv6 is off: one of several will do
        if missing is not None and not bound:
            raise missing
        return tuple(bound)

    async def _start_tcp(self, endpoint: Endpoint, loops: trio.Nursery) -> Endpoint:
        handler = self.tls_handler if endpoint.kind is Kind.TLS else self.handler
        (listener,) = await trio.open_tcp_listeners(
            endpoint.port, host=endpoint.host, backlog=self.backlog
        )
        bound = attrs.evolve(endpoint, port=int(listener.socket.getsockname()[1]))
        loops.start_soon(self._accept_from, listener, handler, bound)
        self.opened(listener.socket)
        return bound

    async def _serve_address(  # noqa: ASYNC128  -- `_serve_socket` calls it
        self, endpoint: Endpoint, task_status: trio.TaskStatus[Endpoint]
    ) -> NoReturn:
        found = await look_up(endpoint.host, endpoint.port, SOCKET_TYPES[endpoint.kind])
        with open_bound(endpoint, found[0]) as sock:
            await self._serve_socket(sock, sockets.endpoint_of(sock), self.handler, task_status)

    async def _serve_path(  # noqa: ASYNC128  -- likewise
        self, endpoint: Endpoint, task_status: trio.TaskStatus[Endpoint]
    ) -> NoReturn:
        kind = SOCKET_TYPES[endpoint.kind]
        with sockets.bound(endpoint.path, kind, self.unix_mode) as sock:
            await self._serve_socket(sock, endpoint, self.handler, task_status)

    async def _serve_inherited(  # noqa: ASYNC128  -- likewise
        self, endpoint: Endpoint, task_status: trio.TaskStatus[Endpoint]
    ) -> NoReturn:
        assert endpoint.descriptor is not None  # noqa: S101  -- `Endpoint` has seen to it
        handler, secure = self.handler, endpoint.kind is Kind.TLS_FD
        with sockets.adopted(endpoint.descriptor) as sock:
            found = sockets.endpoint_of(sock)
            try:
                if secure:
                    found, handler = over_tls(found, endpoint), self.tls_handler
                self.check(found.kind, found)
            except ValueError:
                sock.detach()  # it stays its owner's, as where it is no socket at all
                raise
            await self._serve_socket(sock, found, handler, task_status)

    async def _serve_socket(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        handler: Serve,
        task_status: trio.TaskStatus[Endpoint],
    ) -> NoReturn:
        """Serve a bound socket of any type, which its opener closes."""
        accepts = sock.type in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
        if accepts and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            sock.listen(LARGEST_BACKLOG if self.backlog is None else self.backlog)
        self.opened(sock)
        task_status.started(endpoint)
        if not accepts:
            await self.answer_datagrams(sock)
        ours = trio.socket.from_stdlib_socket(sock)
        packets = sock.type == socket.SOCK_SEQPACKET
        listener = sockets.PacketListener(ours) if packets else trio.SocketListener(ours)
        await self._accept_from(listener, handler, endpoint)

    async def _accept_from(
        self, listener: Listener, handler: Serve, endpoint: Endpoint | None
    ) -> NoReturn:
        """Accept connections until cancelled, which closes the listener.

        As `trio.serve_listeners` does, but for its second close of every connection, which
        costs as much as all the rest of its end; and any shortage is waited out.
        """
        name = str(endpoint or "")
        async with listener:
            while True:
                try:
                    accepted = await listener.accept()
                    self.handlers.start_soon(handler, accepted, name)
                except (OSError, MemoryError) as error:
                    if not shortage(error):
                        raise
                    await trio.sleep(_SHORTAGE_PAUSE)

    def _checked(self, listener: Listener) -> tuple[Endpoint, ...]:
        """Return where an open listener listens, if it has a socket of a kind that we know."""
        below = getattr(listener, "transport_listener", listener)  # of a trio.SSLListener
        sock = getattr(below, "socket", None)
        secure = below is not listener
        if sock is None or sockets.kind_of(sock) is None:
            self.check(Kind.TLS if secure else "memory", "memory", secure=secure)
            return ()
        found = sockets.endpoint_of(sock)
        if secure and found.kind in _BENEATH_TLS:
            found = attrs.evolve(found, kind=Kind.TLS)
        self.check(Kind.TLS if secure else found.kind, found, secure=secure)
        self.opened(sock)
        return (found,)


def over_tls(found: Endpoint, inherited: Endpoint) -> Endpoint:
    """Return an inherited listener's endpoint, served over TLS.

    Unix streams are none: no endpoint would say what they are, so no client could connect,
    and a path is in no certificate. Its permissions guard it already.

    Raises:
        ValueError: it is no TCP listener.
    """
    if found.kind not in _BENEATH_TLS:
        raise ValueError(
            f"{inherited} is {found}, and TLS needs a TCP listener: "
            f"write fd:{inherited.descriptor}"
        )
    return attrs.evolve(found, kind=Kind.TLS)


async def addresses(endpoint: Endpoint) -> list[str]:
    """Return the addresses that an endpoint's host has, each of which is listened on."""
    if endpoint.host == EVERY_INTERFACE:
        return ["0.0.0.0", "::"]  # noqa: S104  -- the user wrote * and means it
    found = await look_up(endpoint.host, endpoint.port, socket.SOCK_STREAM)
    return list(dict.fromkeys(host_of(address) for *_, address in found))
