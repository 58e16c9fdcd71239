"""What the system says of the sockets of a run: those that are closed, and those there are."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from techo._kernel.drops import read_drops
from techo._kernel.tcp_info import TcpInfo, read_tcp_info
from techo._transport.transport import Transport


@attrs.define(eq=False)
class SocketFigures:
    """Adds up over sockets, which are asked before they are closed."""

    _tcp: TcpInfo | None = None
    _dropped: int = 0

    def closing(self, transport: Transport) -> None:
        """Take in that a socket is about to be closed."""
        self._tcp, self._dropped = self.tcp([transport]), self.dropped_here([transport])

    def tcp(self, present: Iterable[Transport]) -> TcpInfo | None:
        """Return what TCP says of the latest connection, and what adds up; None without TCP."""
        found = self._tcp
        for transport in present:
            if transport.socket is None or transport.keeps_messages:
                continue
            latest = read_tcp_info(transport.socket)
            if latest is not None:
                found = latest if found is None else latest.after(found)
        return found

    def dropped_here(self, present: Iterable[Transport]) -> int:
        """Return how many datagrams the sockets had no room for."""
        return self._dropped + sum(
            read_drops(transport.socket)
            for transport in present
            if transport.socket is not None and transport.connectionless
        )
