"""Unix paths: binding without disturbing a live server, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator


@contextlib.contextmanager
def bound(path: str, kind: socket.SocketKind, mode: int | None) -> Iterator[socket.socket]:
    """Bind a new socket to `path`, or to an abstract name for ``@NAME``, for a block's length.

    A path that a dead server left behind is replaced. Where `mode` is given, at no moment may
    more people connect than it says. Afterwards the socket is closed and the path removed,
    unless it has become somebody else's.

    Raises:
        OSError: EADDRINUSE if a server is alive there, EEXIST if something that is no socket
            is in the way, or whatever else the system has against it.
    """
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.setblocking(False)
        if path.startswith("@"):
            sock.bind("\0" + path[1:])
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
            with contextlib.suppress(FileNotFoundError):
                if _identity(path) == ours:
                    os.unlink(path)  # noqa: PTH108  -- likewise


def _bind(sock: socket.socket, path: str, kind: socket.SocketKind) -> None:
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_stale(path, kind):
            raise
        os.unlink(path)  # noqa: PTH108  -- likewise
        sock.bind(path)


def _is_stale(path: str, kind: socket.SocketKind) -> bool:
    """Whether a dead server has left `path` behind, which refuses connections.

    Raises:
        FileExistsError: what is there is no socket.
        PermissionError: it is somebody else's, who lets nobody find out.
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
    # A server that has just replaced it is not to be removed in its stead.
    return refused and _identity(path) == before


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino
