"""Hooks: several behind the one that a service has."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import attrs
import trio

from techo._kernel.datagram_sockets import Sender
from techo._server.connection import Connection, Peer
from techo._server.hook import ServiceHook
from techo._transport.transport import Transport


@attrs.define(eq=False)
class Hooks(ServiceHook):
    """Calls each of its hooks in turn; who one of them refuses, the next is not asked about."""

    hooks: Sequence[ServiceHook]

    def socket_opened(
        self, sock: socket.socket | trio.socket.SocketType, *, listening: bool
    ) -> None:
        """Let each set its options."""
        for each in self.hooks:
            each.socket_opened(sock, listening=listening)

    async def identify(self, transport: Transport, peer: Peer) -> Peer:
        """Let each find out more about who is there."""
        for each in self.hooks:
            peer = await each.identify(transport, peer)
        return peer

    def identify_datagram(self, data: memoryview, sender: Sender) -> tuple[memoryview, Sender]:
        """Let each find out more about who has sent it."""
        for each in self.hooks:
            data, sender = each.identify_datagram(data, sender)
        return data, sender

    def connection_ended(self, connection: Connection) -> None:
        """Let each note the end."""
        for each in self.hooks:
            each.connection_ended(connection)
