"""Complaints: what went wrong on the network, in one line with the remedy."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping

_REMEDIES = {
    errno.EADDRINUSE: "stop what listens there, or choose another port (0 is any free one)",
    errno.EACCES: "ports below 1024 need privileges; choose a higher one",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; 127.0.0.1 and * exist",
    errno.ECONNREFUSED: "start a server there, or check host and port",
    errno.ETIMEDOUT: "check that the host is up and lets connections to this port through",
}

_PATH_REMEDIES = {
    errno.EADDRINUSE: "stop the server that is alive there, or choose another path",
    errno.EEXIST: "what is there is no socket; move it, or choose another path",
    errno.ENOENT: "make its directory first",
    errno.EACCES: "you may not write in that directory; choose another",
    errno.EPERM: "you may not write in that directory; choose another",
}

_DESCRIPTOR_REMEDIES = {
    errno.EBADF: "nothing was passed under that number",
    errno.ENOTSOCK: "pass a socket",
    errno.ENOTCONN: "pass a socket that is bound",
    errno.EINVAL: "pass a socket that listens",
    errno.EPROTONOSUPPORT: "pass a socket of TCP, UDP or Unix",
}


def refuse(reason: str) -> int:
    """Say on standard error why nothing was tried; give the exit code for that."""
    sys.stderr.write(f"techo: {reason}\n")
    return 2


def complain_of_binding(error: OSError) -> int:
    """Say on standard error what could not be listened on, and give the exit code for that."""
    name = str(error.filename)
    remedies = _REMEDIES
    if name.startswith("unix"):
        remedies = _PATH_REMEDIES
    elif name.startswith("fd:"):
        remedies = _DESCRIPTOR_REMEDIES
    return complain(f"cannot listen on {name}", error, remedies)


def complain(what: str, error: OSError, remedies: Mapping[int, str] = _REMEDIES) -> int:
    """Say on standard error what failed, why, and what to do; give the exit code for that."""
    cause = _cause(error)
    if isinstance(cause, socket.gaierror):
        reason, remedy = f"unknown host ({cause.strerror})", "check the spelling of its name"
    elif cause.errno is None:
        reason, remedy = str(cause), "check the address"
    else:
        reason = os.strerror(cause.errno).lower()
        remedy = remedies.get(cause.errno, "check the address")
    return refuse(f"{what}: {reason}; {remedy}")


def _cause(error: OSError) -> OSError:
    """Find the error of the first address tried, where several are summed up in one."""
    below = error.__cause__
    while isinstance(below, ExceptionGroup):
        below = below.exceptions[0]
    return _cause(below) if error.errno is None and isinstance(below, OSError) else error
