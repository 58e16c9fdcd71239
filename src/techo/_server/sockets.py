"""Sockets to listen on: inherited ones, Unix paths, and a listener whose peers send packets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from typing import Final

import trio

from techo._addresses import unix_address
from techo._kernel import mptcp
from techo._log import warning
from techo._transport.messages import LARGEST_PACKET, PacketTransport
from techo.endpoint import Endpoint, Kind, host_of

_KINDS: Final = {
    (True, socket.SOCK_STREAM): Kind.TCP,
    (True, socket.SOCK_DGRAM): Kind.UDP,
    (True, socket.SOCK_RAW): Kind.IP,
    (False, socket.SOCK_STREAM): Kind.UNIX,
    (False, socket.SOCK_DGRAM): Kind.UNIXGRAM,
    (False, socket.SOCK_SEQPACKET): Kind.UNIXPACKET,
}


def adopted(descriptor: int) -> socket.socket:
    """Return a socket object for an inherited descriptor, which it owns from now on.

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
    if kind_of(sock) in (None, Kind.IP):
        raise _error_of(errno.EPROTONOSUPPORT)
    if sock.type == socket.SOCK_DGRAM:
        address = sock.getsockname()
        if not (address[1] if isinstance(address, tuple) else address):
            raise _error_of(errno.ENOTCONN)
    elif not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _error_of(errno.EINVAL)


def kind_of(sock: socket.socket) -> Kind | None:
    """Return what kind of endpoint a socket is; None if it is of no kind that we serve."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return None
    if mptcp.is_mptcp(sock):
        return Kind.MPTCP
    return _KINDS.get((sock.family != socket.AF_UNIX, socket.SocketKind(sock.type)))


def _error_of(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def endpoint_of(sock: socket.socket) -> Endpoint:
    """Return where a socket of a known kind is bound."""
    kind, address = kind_of(sock), sock.getsockname()
    assert kind is not None  # noqa: S101  -- as the caller has seen
    if kind is Kind.IP:
        return Endpoint(host_of(address), kind=kind, protocol=sock.proto)
    if isinstance(address, tuple):
        return Endpoint(host_of(address), address[1], kind=kind)
    if isinstance(address, bytes):
        address = "@" + address[1:].decode("ascii", errors="replace")
    # Another program has chosen the name, which an endpoint's text may not be able to hold.
    shown = "".join(
        c if c.isprintable() and c != "\N{REPLACEMENT CHARACTER}" else "?" for c in address
    )
    return Endpoint(kind=kind, path=shown if shown != "@" else "@?")


@contextlib.contextmanager
def bound(path: str, kind: socket.SocketKind, mode: int | None) -> Iterator[socket.socket]:
    """Bind a new socket to `path`, or to an abstract name for ``@NAME``, for a block's length.

    A path that a dead server left behind is replaced. Where `mode` is given, nobody
    beyond what it allows can connect at any moment. Afterwards the socket is closed and the
    path removed, unless another socket has replaced it.

    Raises:
        OSError: EADDRINUSE if a server is alive there, EEXIST if something that is no socket
            is in the way, or any other error of the system.
    """
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.setblocking(False)
        if path.startswith("@"):
            sock.bind(unix_address(path))
            yield sock
            return
        if mode is not None:
            # The file gets the permissions that the socket has, less the umask.
            os.fchmod(sock.fileno(), mode)
        _bind(sock, path, kind)
        ours = _identity(path)
        try:
            if mode is not None and stat.S_IMODE(os.lstat(path).st_mode) != mode:
                os.chmod(path, mode)  # noqa: PTH101  -- a text, not a Path: // and . stay as they are
            yield sock
        finally:
            try:
                if _identity(path) == ours:
                    os.unlink(path)  # noqa: PTH108  -- likewise
            except FileNotFoundError:
                pass  # somebody else has
            except OSError as error:  # which is no reason to end the connections
                warning("cannot remove %s: %s; remove it", path, error.strerror)


def _bind(sock: socket.socket, path: str, kind: socket.SocketKind) -> None:
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_stale(path, kind):
            raise
        os.unlink(path)  # noqa: PTH108  -- likewise
        sock.bind(path)


def _is_stale(path: str, kind: socket.SocketKind) -> bool:
    """Return whether a dead server has left `path` behind, which refuses connections.

    Raises:
        FileExistsError: what is there is no socket.
        PermissionError: it belongs to another user, so that this cannot be found out.
    """
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    before = _identity(path)
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        # A live one answers, is full (EAGAIN) or of another type (EPROTOTYPE).
        answer = probe.connect_ex(path)
    if answer == errno.EACCES:
        raise PermissionError(answer, os.strerror(answer))
    refused = answer == errno.ECONNREFUSED
    # A server that has just replaced it must not be removed.
    return refused and _identity(path) == before


class PacketListener(trio.abc.Listener[PacketTransport]):
    """Accepts connections that keep messages apart (SOCK_SEQPACKET)."""

    def __init__(self, socket: trio.socket.SocketType) -> None:
        self.socket = socket

    async def accept(self) -> PacketTransport:
        """Wait for a connection.

        Raises:
            OSError: none can be had now: descriptors or memory are used up.
            trio.ClosedResourceError: the listener was closed.
        """
        accepted = None
        while accepted is None:
            try:
                accepted, _ = await self.socket.accept()
            except ConnectionAbortedError:
                continue  # before it was accepted
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise trio.ClosedResourceError("the listener was closed") from None
                raise
        # A stamped reply is longer than what it answers, and must fit too (socket(7)).
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_PACKET)
        return PacketTransport(accepted)

    async def aclose(self) -> None:
        self.socket.close()
        await trio.lowlevel.checkpoint()


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
