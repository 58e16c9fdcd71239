"""Multipath: what the connections of a run have become that were to be MPTCP."""

from __future__ import annotations

import attrs

from techo._kernel.mptcp import MptcpPaths, subflows_of
from techo._transport.transport import Transport


@attrs.define(eq=False)
class Multipath:
    """Looks at connections when they are opened, when they close, and whenever asked.

    Further subflows join some time after the first, and go when their paths do.
    """

    _most: dict[Transport, int | None] = attrs.field(factory=dict)
    """The subflows that each connection was seen to have; None where it is plain TCP."""
    _over: MptcpPaths | None = None
    """What those have become that are over."""

    def opened(self, transport: Transport) -> None:
        """Take in a connection that there is now, of whatever kind."""
        if transport.multipath:
            self._most[transport] = None
            if transport.socket is not None:
                self._most[transport] = subflows_of(transport.socket)

    def closing(self, transport: Transport) -> None:
        """Take in that a connection is over and about to be closed."""
        if transport in self._most:
            self._look(transport)
            self._over = self._with_over([self._most.pop(transport)])

    def so_far(self) -> MptcpPaths | None:
        """Return what all of them have become; None if none was to be MPTCP."""
        for transport in self._most:
            self._look(transport)
        return self._with_over([*self._most.values()])

    def _look(self, transport: Transport) -> None:
        before = self._most[transport]
        if before is not None and transport.socket is not None:
            self._most[transport] = max(before, subflows_of(transport.socket) or 0)

    def _with_over(self, each: list[int | None]) -> MptcpPaths | None:
        if not each:
            return self._over
        found = MptcpPaths.of(each)
        return found if self._over is None else self._over + found
