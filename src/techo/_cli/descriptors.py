"""File descriptors: room for as many connections as are wanted, where the system gives it."""

from __future__ import annotations

import sys
from typing import Final

_SPARE: Final = 64
"""For listening sockets, the run's own, and the files that a program happens to open."""


def shortage(connections: int) -> str | None:
    """Raise the limit on open files to what `connections` take, or say why it stays short."""
    if sys.platform == "win32":
        return None  # which has no such limit
    import resource

    needed = connections + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return None
    room = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    if room == needed:
        return None
    return (
        f"only {room} files may be open, which is too few for {connections} connections: raise "
        "the limit (ulimit -Hn)"
    )
