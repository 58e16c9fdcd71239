"""Ends: how a socket is closed."""

from __future__ import annotations

import socket
import struct
from typing import Final, Protocol

_NO_LINGER: Final = struct.pack("ii", 1, 0)
"""Of SO_LINGER (socket(7)): on, for no time."""


class _Socket(Protocol):
    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """Set an option."""


def reset_when_closed(sock: _Socket) -> None:
    """Let closing `sock` reset the connection, and drop what was not sent yet."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
