"""Holding: the sockets that worker processes serve, opened before them and kept for them.

What connects or arrives is queued at a socket, which exists as long as any process has it. So
a worker that dies loses nothing that it had not accepted: the next one finds it there.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import attrs

from techo._addresses import SOCKET_TYPES, Found
from techo._raw.serving import open_bound
from techo._server import sockets
from techo._server.listening import (
    LARGEST_BACKLOG,
    NOT_ON_THIS_MACHINE,
    TRIES_FOR_A_COMMON_PORT,
    addresses,
    over_tls,
)
from techo._shortage import look_up
from techo.endpoint import INHERITED, SECURE, Endpoint, Kind

_ONE_EACH: Final = {Kind.TCP, Kind.TLS, Kind.UDP}
"""Kinds of which each worker has a socket of its own, and the kernel chooses among them
(SO_REUSEPORT of socket(7)). It chooses by the addresses of both ends, so that the datagrams of
one peer stay with a worker as long as no socket comes or goes."""


@attrs.frozen(eq=False)
class Held:
    """One place that is listened on."""

    endpoint: Endpoint
    """What it is, with the real port."""
    sockets: tuple[socket.socket, ...]
    """One for each worker, or one that they share: who is free accepts."""

    def passed(self, number: int) -> Endpoint:
        """Return the descriptor that a worker serves, counted from 0."""
        sock = self.sockets[number % len(self.sockets)]
        kind = Kind.TLS_FD if self.endpoint.kind in SECURE else Kind.FD
        return Endpoint(kind=kind, descriptor=sock.fileno())


@attrs.frozen
class Holder:
    """Opens sockets for so many workers."""

    workers: int
    backlog: int | None
    unix_mode: int | None
    end: contextlib.ExitStack
    """Closes the sockets, and removes what paths they had."""

    async def open(self, endpoint: Endpoint) -> list[Held]:
        """Open what an endpoint takes: a place for each of its addresses, all on one port.

        Raises:
            OSError: the name is unknown or an address can't be bound; `filename` is the
                endpoint.
            ValueError: it is to be served over TLS, and is no TCP listener.
        """
        tries = TRIES_FOR_A_COMMON_PORT if endpoint.host and endpoint.port == 0 else 1
        while True:
            tries -= 1
            with contextlib.ExitStack() as opened:
                try:
                    found = await self._open(endpoint, opened)
                except OSError as error:
                    # As in listening without workers: see there.
                    if error.errno != errno.EADDRINUSE or not tries:
                        error.filename = str(endpoint)
                        raise
                else:
                    self.end.push(opened.pop_all())
                    return found

    async def _open(self, endpoint: Endpoint, opened: contextlib.ExitStack) -> list[Held]:
        if endpoint.kind in INHERITED:
            assert endpoint.descriptor is not None  # noqa: S101  -- `Endpoint` has seen to it
            sock = opened.enter_context(sockets.adopted(endpoint.descriptor))
            found = sockets.endpoint_of(sock)
            if endpoint.kind is Kind.TLS_FD:
                found = over_tls(found, endpoint)
            return [Held(found, (sock,))]
        if endpoint.path:
            kind = SOCKET_TYPES[endpoint.kind]
            sock = opened.enter_context(sockets.bound(endpoint.path, kind, self.unix_mode))
            self._listen(sock)
            return [Held(endpoint, (sock,))]
        held: list[Held] = []
        missing: OSError | None = None
        for host in await addresses(endpoint):
            port = held[0].endpoint.port if held else endpoint.port
            one = attrs.evolve(endpoint, host=host, port=port)
            try:
                held.append(await self._open_address(one, opened))
            except OSError as error:
                if error.errno not in NOT_ON_THIS_MACHINE:
                    raise
                missing = error
        if missing is not None and not held:
            raise missing
        return held

    async def _open_address(self, endpoint: Endpoint, opened: contextlib.ExitStack) -> Held:
        kind = SOCKET_TYPES[endpoint.kind]
        found = (await look_up(endpoint.host, endpoint.port, kind))[0]
        count = self.workers if endpoint.kind in _ONE_EACH else 1
        group = [opened.enter_context(each) for each in _bound(endpoint, found, count)]
        for sock in group:
            self._listen(sock)
        port = group[0].getsockname()[1]
        if endpoint.kind is Kind.MPTCP:  # which it may have turned out not to be
            return Held(sockets.endpoint_of(group[0]), tuple(group))
        return Held(attrs.evolve(endpoint, port=port), tuple(group))

    def _listen(self, sock: socket.socket) -> None:
        if sock.type != socket.SOCK_DGRAM:
            sock.listen(LARGEST_BACKLOG if self.backlog is None else self.backlog)


def _bound(endpoint: Endpoint, found: Found, count: int) -> Iterator[socket.socket]:
    """Yield so many sockets that are bound to one address."""
    first = open_bound(endpoint, found)
    yield first
    if count == 1:
        return
    # Only now: bound with it, they would share the port with any server that has it too, such
    # as another techo, and get a part of its connections.
    first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    family, _, _, _, address = found
    address = (address[0], first.getsockname()[1], *address[2:])
    for _ in range(count - 1):
        yield open_bound(endpoint, (family, 0, 0, "", address), shared=True)
