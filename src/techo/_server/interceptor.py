"""The interceptor: where a service lets something else be done in place of plain serving."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import NoReturn, Protocol

from techo._kernel.datagram_sockets import DatagramSocket
from techo._server.connection import Connection, Outcome
from techo._transport.transport import Transport
from techo.reply import Reply


class Interception(Protocol):
    """What is done with one connection; its limits stay in force all the time."""

    def context(self, tls: ssl.SSLContext) -> ssl.SSLContext:
        """Return what is shown to a TLS client in place of `tls`."""

    async def begin(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Do what comes before the handshake; return the outcome if that is the end."""

    async def converse(
        self, transport: Transport, reply: Reply, connection: Connection, receive_size: int
    ) -> Outcome:
        """Do what `conversation.converse` does, in another way.

        Raises:
            Exception: as that.
        """


class Interceptor(Protocol):
    """What a service asks once for each connection and socket; without one it asks nothing."""

    def check(self, transport: str, place: object, *, secure: bool) -> None:
        """Refuse a place to listen at; it is `secure` if its TLS is not the service's.

        Raises:
            ValueError: what is to be done cannot be done over such a `transport`.
        """

    def next(self) -> Interception | None:
        """Return what is done with the next connection; None serves it plainly."""

    async def serve_datagrams(
        self, place: DatagramSocket, serve: Callable[[DatagramSocket], Awaitable[NoReturn]]
    ) -> NoReturn:
        """Have a socket served, until cancelled, with what is to send and receive on it."""


class InterceptedError(OSError):
    """An interceptor has kept a reply to a datagram from being sent."""
