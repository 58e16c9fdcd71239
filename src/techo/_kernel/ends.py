"""Ends: how a socket is closed."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final, Protocol

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Of SO_LINGER (socket(7)): on, for no time."""

_CORK: Final = getattr(socket, "TCP_CORK", None)
"""Linux's: what is sent waits until the segment is full, or until the end (tcp(7))."""


class _Socket(Protocol):
    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set an option."""


def reset_when_closed(sock: _Socket) -> None:
    """Let closing `sock` reset the connection, and drop what was not sent yet."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def join_with_end(sock: _Socket, *, join: bool = True) -> None:
    """Let what is sent next arrive together with the end, which is to be sent right after it.

    A peer that gets the one and then looks for the other sends nothing into the void. Where
    there is to be no end after all, `join` takes that back.
    """
    if _CORK is not None:
        with contextlib.suppress(OSError):  # it is not TCP, or broken
            sock.setsockopt(socket.IPPROTO_TCP, _CORK, join)
