"""For tests of programs that use networks: the echo service without sockets."""

from __future__ import annotations

from techo._memory.listener import MemoryListener
from techo._memory.stream import MemoryStream
from techo._memory_server import MemoryServer, open_memory_server

__all__ = [
    "MemoryListener",
    "MemoryServer",
    "MemoryStream",
    "open_memory_server",
]
