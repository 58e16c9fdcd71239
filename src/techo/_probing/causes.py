"""Causes: why a probe or a trip has failed, as one word that can be counted."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import Final

import trio

from techo._client.comparison import EchoMismatch, ShortReply
from techo._kernel.options import SocketOptionError
from techo._kernel.reports import ReportedError
from techo._printable import printable
from techo._probing.failure_cause import FailureCause
from techo._shortage import OutOfPortsError, is_shortage
from techo._tls.alerts import in_words

_BY_NUMBER: Final = {
    errno.ECONNREFUSED: FailureCause.REFUSED,
    errno.ENOENT: FailureCause.REFUSED,  # of a Unix path: there is none
    errno.EAGAIN: FailureCause.REFUSED,  # too many are waiting there
    errno.EPROTOTYPE: FailureCause.REFUSED,  # a server of another kind
    errno.ECONNRESET: FailureCause.RESET,
    errno.EPIPE: FailureCause.RESET,
    errno.ECONNABORTED: FailureCause.RESET,
    errno.ENOTCONN: FailureCause.RESET,
    errno.ENOPROTOOPT: FailureCause.REFUSED,  # over ip: nobody there has the protocol
    errno.EPROTO: FailureCause.REFUSED,  # the same over IPv6
    errno.ETIMEDOUT: FailureCause.TIMEOUT_CONNECT,
    errno.EMSGSIZE: FailureCause.TOO_LARGE,
}
"""Everything else means that there is no way."""

_BY_TYPE: Final[tuple[tuple[type[Exception], FailureCause], ...]] = (
    (ssl.SSLEOFError, FailureCause.EOF),
    (ssl.SSLError, FailureCause.TLS),
    (socket.gaierror, FailureCause.DNS),
    (ConnectionRefusedError, FailureCause.REFUSED),  # who raises it may leave out the number
    (ConnectionError, FailureCause.RESET),
    (EchoMismatch, FailureCause.CORRUPT),
    (trio.BrokenResourceError, FailureCause.RESET),
    (trio.ClosedResourceError, FailureCause.RESET),
)


def cause_of(error: Exception) -> FailureCause:
    """Return the cause behind what connecting, sending, receiving or comparing has raised."""
    if isinstance(error, ShortReply):
        return FailureCause.SHORT if error.received else FailureCause.EOF
    below = _below(error)
    if isinstance(below, ReportedError) and below.errno != errno.EMSGSIZE:
        if below.expired:
            return FailureCause.TTL_EXCEEDED
        return FailureCause.REFUSED if below.refused else FailureCause.UNREACHABLE
    if is_shortage(below):
        return FailureCause.LOCAL
    for kind, cause in _BY_TYPE:
        if isinstance(below, kind):
            return cause
    number = below.errno if isinstance(below, OSError) else None
    return _BY_NUMBER.get(number or 0, FailureCause.UNREACHABLE)


def words_of(error: Exception) -> str:
    """Return the cause in words, for people: in one line, and never empty."""
    words = " ".join(_words(_below(error)).split())
    return printable(words)


def _words(below: Exception) -> str:
    text = str(below) or type(below).__name__
    # What a function that connects raises by itself lacks what the system adds.
    if isinstance(below, ssl.SSLCertVerificationError | ssl.SSLEOFError):
        return in_words(below)
    if isinstance(below, ssl.SSLError):
        return f"TLS failed ({in_words(below)})"
    if isinstance(below, socket.gaierror):
        return f"unknown host ({below.strerror or text})"
    if isinstance(below, OutOfPortsError | SocketOptionError | ReportedError):
        return str(below.strerror)
    if isinstance(below, OSError) and below.errno is not None:
        return os.strerror(below.errno).lower()
    return text


def _below(error: Exception) -> Exception:
    """Return the error that the system reported, where there is one."""
    if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, OSError):
        return error.__cause__
    return first_cause(error) if isinstance(error, OSError) else error


def first_cause(error: OSError) -> OSError:
    """Return the error of the first address that failed, where one error sums up several."""
    below = error.__cause__
    while isinstance(below, ExceptionGroup):
        below = below.exceptions[0]
    return first_cause(below) if error.errno is None and isinstance(below, OSError) else error
