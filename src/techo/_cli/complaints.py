"""Complaints: what went wrong on the network, in one line with the remedy."""

from __future__ import annotations

import errno
import os
import socket
import sys

_REMEDIES = {
    errno.EADDRINUSE: "stop what listens there, or choose another port (0 is any free one)",
    errno.EACCES: "ports below 1024 need privileges; choose a higher one",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; 127.0.0.1 and * exist",
    errno.ECONNREFUSED: "start a server there, or check host and port",
    errno.ETIMEDOUT: "check that the host is up and lets connections to this port through",
}


def complain(what: str, error: OSError) -> int:
    """Say on standard error what failed, why, and what to do; give the exit code for that."""
    cause = _cause(error)
    if isinstance(cause, socket.gaierror):
        reason, remedy = f"unknown host ({cause.strerror})", "check the spelling of its name"
    elif cause.errno is None:
        reason, remedy = str(cause), "check the address"
    else:
        reason = os.strerror(cause.errno).lower()
        remedy = _REMEDIES.get(cause.errno, "check the address")
    sys.stderr.write(f"techo: {what}: {reason}; {remedy}\n")
    return 2


def _cause(error: OSError) -> OSError:
    """Find the error of the first address tried, where several are summed up in one."""
    below = error.__cause__
    while isinstance(below, ExceptionGroup):
        below = below.exceptions[0]
    return _cause(below) if error.errno is None and isinstance(below, OSError) else error
