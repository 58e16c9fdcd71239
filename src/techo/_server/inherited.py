"""Inherited sockets: what a descriptor from whoever started us is, and where it is bound."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from techo.endpoint import Endpoint, Kind

_KINDS: Final = {
    (True, socket.SOCK_STREAM): Kind.TCP,
    (True, socket.SOCK_DGRAM): Kind.UDP,
    (False, socket.SOCK_STREAM): Kind.UNIX,
    (False, socket.SOCK_DGRAM): Kind.UNIXGRAM,
    (False, socket.SOCK_SEQPACKET): Kind.UNIXPACKET,
}


def adopt(descriptor: int) -> socket.socket:
    """Make a socket object of an inherited descriptor; from now on that owns it.

    Processes that we start don't inherit it in turn.

    Raises:
        OSError: EBADF or ENOTSOCK, it is no socket; ENOTCONN, it is not bound; EINVAL, its
            connections can't be accepted because it does not listen; EPROTONOSUPPORT, it is
            of a family or type that can't be served. The descriptor stays open then.
    """
    sock = socket.socket(fileno=descriptor)
    try:
        _check(sock)
    except OSError:
        sock.detach()
        raise
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def _check(sock: socket.socket) -> None:
    if _known(sock) is None:
        raise _error(errno.EPROTONOSUPPORT)
    if sock.type == socket.SOCK_DGRAM:
        address = sock.getsockname()
        if not (address[1] if isinstance(address, tuple) else address):
            raise _error(errno.ENOTCONN)
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _error(errno.EINVAL)


def _known(sock: socket.socket) -> Kind | None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return None
    return _KINDS.get((sock.family != socket.AF_UNIX, socket.SocketKind(sock.type)))


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def endpoint_of(sock: socket.socket) -> Endpoint:
    """Say where a socket of ours is bound."""
    kind, address = _known(sock), sock.getsockname()
    assert kind is not None  # noqa: S101  -- `adopt` has refused all others
    if isinstance(address, tuple):
        return Endpoint(address[0], address[1], kind=kind)
    if isinstance(address, bytes):
        address = "@" + address[1:].decode("ascii", errors="replace")
    # Whoever bound it may have chosen a name that an endpoint's text can't hold.
    shown = "".join(
        c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else "?" for c in address
    )
    return Endpoint(kind=kind, path=shown if shown != "@" else "@?")
