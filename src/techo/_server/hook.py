"""The hook: where socket options, access and metrics attach to the service."""

from __future__ import annotations

import socket

import trio

from techo._kernel.datagram_sockets import Sender
from techo._server.connection import Connection, Peer
from techo._transport.transport import Transport


class RefusedError(Exception):
    """A connection or a datagram is refused by the hook.

    Its text is the reason in the log, and one of few, since lines about the same are summed up.
    """


class ServiceHook:
    """What a service calls at the places where more than an echo may be wanted.

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

    async def identify(self, transport: Transport, peer: Peer) -> Peer:  # noqa: ASYNC124  -- see above
        """Return who really is at the other end.

        This is asked once for every connection that the totals admit, before a TLS handshake
        and before the address is counted. It may receive from `transport`, which then begins
        behind what was received. `Limits.handshake_timeout` is the time it has.

        Raises:
            RefusedError: the connection is to end.
        """
        del transport
        return peer

    def identify_datagram(self, data: memoryview, sender: Sender) -> tuple[memoryview, Sender]:
        """Return the payload of a datagram, and who really has sent it.

        The reply goes to `sender` all the same. `data` is overwritten by the next datagram.

        Raises:
            RefusedError: it is not to be answered.
        """
        return data, sender

    def connection_ended(self, connection: Connection) -> None:
        """Note that a connection is over, one that was refused included; see its `outcome`."""
