"""The poll: one task that waits for the sockets of all flows, where the system has epoll.

A wait of trio's costs each socket a system call and a turn of its task. Nothing here waits for
a single socket, so that a datagram costs about as much as in an echo; as in the pump.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Callable
from typing import Any, Final, NoReturn

import attrs
import trio

AVAILABLE: Final = hasattr(select, "epoll")

_MOST: Final = 256
"""Sockets that are received from before other tasks get their turn."""


def _make_epoll() -> Any:
    return select.epoll()


@attrs.define(eq=False)
class Poll:
    """Calls what belongs to a socket as soon as that is ready, or has an error."""

    _epoll: Any = attrs.field(factory=_make_epoll)
    _ready: dict[int, Callable[[], None]] = attrs.field(factory=dict)

    def add(self, descriptor: int, ready: Callable[[], None]) -> None:
        """Watch a socket. What is called must not raise.

        Raises:
            OSError: the system watches too many already, or `run` is over.
        """
        if self._epoll.closed:
            raise OSError(errno.EBADF, "the proxy is over")
        self._epoll.register(descriptor, select.EPOLLIN)
        self._ready[descriptor] = ready

    def remove(self, descriptor: int) -> None:
        """Stop watching one, before it is closed; nothing happens if it is not watched."""
        if self._ready.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    async def run(self) -> NoReturn:
        """Wait and call, until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0, _MOST):
                    # One that was called before it may have closed this one.
                    if (ready := self._ready.get(descriptor)) is not None:
                        ready()
        finally:
            self._epoll.close()
            self._ready.clear()
