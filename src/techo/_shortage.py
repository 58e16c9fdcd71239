"""Shortages: which errors are this machine's fault, and not a server's."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import trio

from techo._kernel.options import SocketOptionError

_NUMBERS: Final = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
        errno.ENOSPC,  # of epoll_ctl(2): too many are watched already
        errno.EACCES,
        errno.EPERM,
    }
)
"""Descriptors, memory and permissions come from our own system only."""


class OutOfPortsError(OSError):
    """The system has no port left to connect from."""

    def __init__(self) -> None:
        super().__init__(errno.EADDRNOTAVAIL, "no port is left to connect from")


def is_shortage(error: BaseException) -> bool:
    """Return whether an error means that this machine lacks something, or forbids it."""
    if isinstance(error, OutOfPortsError | SocketOptionError | MemoryError):
        return True
    if isinstance(error, ssl.SSLError | socket.gaierror):
        return False  # whose numbers are of other tables
    return isinstance(error, OSError) and error.errno in _NUMBERS


def named(error: OSError, family: int, address: Any) -> OSError:
    """Return an error that says so where connecting failed because no port is left.

    Linux reports that as EAGAIN over UDP. Over TCP it is EADDRNOTAVAIL, as where no address of
    ours leads there; but then datagrams, whose ports are others, find no way either.
    """
    if error.errno == errno.EADDRNOTAVAIL:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            if probe.connect_ex(address) == errno.EADDRNOTAVAIL:
                return error
    elif error.errno != errno.EAGAIN:
        return error
    return OutOfPortsError()


def worst_first(failures: Iterable[OSError]) -> list[OSError]:
    """Return the failures of several addresses, those first that hold for all of them.

    What this machine lacks, it lacks for every address.
    """
    return sorted(
        failures,
        key=lambda each: not is_shortage(each) or isinstance(each, PermissionError),
    )


async def look_up(
    host: str,
    port: int,
    kind: int,
    family: int = socket.AF_UNSPEC,
    find: Callable[..., Awaitable[list[Any]]] | None = None,
) -> list[Any]:
    """Look up a name, as `trio.socket.getaddrinfo` does, or `find`, which takes the same.

    Raises:
        socket.gaierror: the name is unknown.
        OSError: this machine has fallen short.
    """
    try:
        return [*await (find or trio.socket.getaddrinfo)(host, port, family, kind)]
    except socket.gaierror:
        # A resolver that can open neither file nor socket reports that it knows no such name.
        socket.socket().close()
        raise
    except RuntimeError as error:  # no thread is left to look it up in
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from error
