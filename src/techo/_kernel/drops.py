"""Drops: datagrams that came to a socket whose buffer was full, and that nobody received."""

from __future__ import annotations

import socket
import struct
from typing import Final

from techo._kernel.options import LINUX
from techo._kernel.tcp_info import Socket

_SO_MEMINFO: Final = 55
"""Of asm-generic/socket.h: an array of numbers about a socket's memory."""

_DROPS: Final = 8
"""Which of them it is: SK_MEMINFO_DROPS of linux/sock_diag.h."""

_NUMBER: Final = struct.Struct("=I")


def read_drops(sock: Socket) -> int:
    """Return how many datagrams the system has dropped at a socket; 0 where it does not say.

    Of the internet only: those to a Unix socket wait at their sender.
    """
    if not LINUX:
        return 0
    size = _NUMBER.size * (_DROPS + 1)
    try:
        numbers = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, size)
    except OSError:  # closed, or an older system
        return 0
    return (
        int(_NUMBER.unpack_from(numbers, size - _NUMBER.size)[0]) if len(numbers) >= size else 0
    )
