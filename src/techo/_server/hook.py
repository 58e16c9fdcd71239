"""The hook: where socket options, access and metrics attach to the service."""

from __future__ import annotations

import socket

import trio

from techo._server.connection import Connection, Peer
from techo._transport.transport import Transport


class ServiceHook:
    """What a service calls at the three places where more than an echo may be wanted.

    Each method does nothing here; a subclass overrides what it needs. A service without a hook
    calls nothing. What a hook raises as an `Exception` is logged; it ends a connection that is
    not over yet as crashed. Raised for a listening socket, it leaves `serve`.
    """

    def socket_opened(
        self, sock: socket.socket | trio.socket.SocketType, *, listening: bool
    ) -> None:
        """Set options: on a bound socket, which is `listening`, or on one that was accepted.

        The sockets of open listeners are among the first.
        """

    async def identify(self, transport: Transport, peer: Peer) -> Peer | None:  # noqa: ASYNC124  -- see above
        """Return who really is at the other end, or None to refuse the connection.

        This is asked once for every connection that the totals admit, before a TLS handshake
        and before the address is counted. It may receive from `transport`, which then begins
        behind what was received. `Limits.handshake_timeout` is the time it has.
        """
        del transport
        return peer

    def connection_ended(self, connection: Connection) -> None:
        """Note that a connection is over, one that was refused included; see its `outcome`."""
