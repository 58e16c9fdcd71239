"""The process: its standard streams, which others may close, and its file descriptors."""

from __future__ import annotations

import os
import sys
from typing import IO, Final

_SPARE: Final = 64
"""For listening sockets, the run's own, and the files that a program happens to open."""


_LEAST: Final = 12
"""Descriptors without which nothing works: those of the run, the pump, a listening socket and a
connection, and a file or two meanwhile."""


def open_missing_streams() -> None:
    """Replace standard streams that the parent process has closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  -- for good


def in_foreground(stream: IO[str]) -> bool:
    """Return whether what is typed on this terminal, Ctrl-C too, is for this process."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # it is no terminal, or not ours, or no file
        return False


def has_terminal() -> bool:
    """Return whether this process has a controlling terminal, which can hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def waiting(stream: IO[str]) -> int:
    """Return how many bytes of what was typed on a terminal can be read without waiting."""
    import fcntl  # not on every system
    import termios

    number = fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(number, sys.byteorder)


def abandon_output() -> None:
    """Discard what could not be printed, and everything printed from now on."""
    # The interpreter flushes once more on its way out, and would complain.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def too_few_to_start() -> str | None:
    """Return why there are too few descriptors for any command, if there are."""
    shortage(0)  # which raises the limit, where that may be
    opened: list[int] = []
    try:
        while len(opened) < _LEAST:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return (
            f"cannot start: {os.strerror(error.errno or 0).lower()}; raise the limit on open "
            f"files (ulimit -n {_SPARE})"
        )
    finally:
        for each in opened:
            os.close(each)
    return None


def shortage(connections: int, *, files_each: int = 1) -> str | None:
    """Raise the limit on open files to what `connections` take; return why it stays short."""
    if sys.platform == "win32":
        return None  # which has no such limit
    import resource

    needed = connections * files_each + _SPARE
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
