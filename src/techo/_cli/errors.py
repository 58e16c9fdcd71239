"""Errors: what went wrong, in one line on standard error, with the remedy."""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final

from techo._cli.output import print_error
from techo._probing.failure_cause import FailureCause
from techo._probing.text import counted
from techo.endpoint import Endpoint


class Attempt(enum.Enum):
    """What was tried; remedies depend on it."""

    CONNECT = enum.auto()
    CONNECT_TO_PATH = enum.auto()
    LISTEN = enum.auto()
    LISTEN_ON_PATH = enum.auto()
    LISTEN_ON_DESCRIPTOR = enum.auto()
    LISTEN_RAW = enum.auto()


_REMEDIES: Final[dict[Attempt, dict[int | FailureCause, str]]] = {
    Attempt.CONNECT: {
        FailureCause.DNS: "check the spelling of its name",
        FailureCause.REFUSED: "start a server there, or check host and port",
        FailureCause.UNREACHABLE: "check the address, and the way there",
        FailureCause.TTL_EXCEEDED: "raise --ttl, or look for a loop on the way",
        FailureCause.TOO_LARGE: "send less at once, or without --dont-fragment",
        FailureCause.TIMEOUT_CONNECT: (
            "check that the host is up and lets connections to this port through"
        ),
    },
    Attempt.CONNECT_TO_PATH: {
        FailureCause.REFUSED: "no server listens there; start one",
        FailureCause.TIMEOUT_CONNECT: "check that the server accepts connections",
        errno.ENOENT: "check the path, and that the server is running",
        errno.EPROTOTYPE: "the server there is of another kind: unix, unixgram or unixpacket",
        errno.EACCES: "connecting takes permission to write to that path",
        errno.EAGAIN: "too many clients are waiting to be accepted; try again",
    },
    Attempt.LISTEN: {
        FailureCause.DNS: "check the spelling of its name",
        errno.EADDRINUSE: "stop what listens there, or choose another port (0 is any free one)",
        errno.EACCES: "ports below 1024 need privileges; choose a higher one",
        errno.EADDRNOTAVAIL: (
            "no interface of this machine has that address; 127.0.0.1 and * exist"
        ),
    },
    Attempt.LISTEN_ON_PATH: {
        errno.EADDRINUSE: "stop the server that is alive there, or choose another path",
        errno.EEXIST: "what is there is no socket; move it, or choose another path",
        errno.ENOENT: "make its directory first",
        errno.EACCES: "that file or directory is another user's; choose another path",
        errno.EPERM: "that file is another user's; remove it, or choose another path",
    },
    Attempt.LISTEN_RAW: {
        FailureCause.DNS: "check the spelling of its name",
        errno.EPERM: "raw sockets take privileges: run as root, or with CAP_NET_RAW",
        errno.EOPNOTSUPP: "do without --workers, each of which would answer every packet",
        errno.EADDRNOTAVAIL: "no interface of this machine has that address; 127.0.0.1 exists",
    },
    Attempt.LISTEN_ON_DESCRIPTOR: {
        errno.EBADF: "nothing was passed under that number",
        errno.ENOTSOCK: "pass a socket",
        errno.ENOTCONN: "pass a socket that is bound",
        errno.EINVAL: "pass a socket that listens",
        errno.EPROTONOSUPPORT: "pass a socket of TCP, UDP or Unix",
    },
}
"""By what the system says or, where that makes no difference, by the cause."""

_SHORTAGES: Final = {
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, or raise the system's limit (fs.file-max)",
    errno.ENOMEM: "close other programs, or ask for less at once",
    errno.ENOBUFS: "ask for less at once",
    errno.ENOSPC: "close other programs, or raise the limit (fs.epoll.max_user_watches)",
    errno.EADDRNOTAVAIL: (
        "ask for fewer connections, wait until ports of closed ones are free, or widen their "
        "range (net.ipv4.ip_local_port_range)"
    ),
    errno.EACCES: "ask where this user may, or look at this machine's firewall",
    errno.EPERM: "ask where this user may, or look at this machine's firewall",
}
"""What to do about a `FailureCause.LOCAL`, where the attempt makes no difference."""

_LOOK: Final = "look at this machine's limits"

_OTHERWISE: Final = "check the address"


def report(reason: str, code: int) -> int:
    """Write one line to standard error; return the exit code for it."""
    print_error(f"techo: {reason}")
    return code


def refuse(reason: str) -> int:
    """Report why nothing was tried; return the exit code for that."""
    return report(reason, 2)


def fail(reason: str) -> int:
    """Report what came out badly; return the exit code for that."""
    return report(reason, 1)


def cannot_listen(error: OSError) -> int:
    """Report what could not be listened on, and why; return the exit code for that."""
    name = str(error.filename)
    attempt = Attempt.LISTEN
    if name.startswith("unix"):
        attempt = Attempt.LISTEN_ON_PATH
    elif name.startswith(("fd:", "tls+fd:")):
        attempt = Attempt.LISTEN_ON_DESCRIPTOR
    elif name.startswith("ip:"):
        attempt = Attempt.LISTEN_RAW
    return _refuse_for(f"cannot listen on {name}", error, attempt)


def cannot_reach(what: str, endpoint: Endpoint, error: OSError) -> int:
    """Report what could not be done with a server, and why; return the exit code for that."""
    return _refuse_for(f"{what} {endpoint}", error, _connecting_to(endpoint))


def never_reached(
    endpoint: Endpoint | str,
    causes: Mapping[FailureCause, int],
    reasons: Mapping[FailureCause, str],
) -> int:
    """Report that no server was there, and why; return the exit code for that."""
    remedy = _remedy_for(endpoint, causes, reasons)
    return refuse(f"{endpoint} was never reached ({counted(causes)}); {remedy}")


def none_reached(
    endpoints: Sequence[str],
    causes: Mapping[FailureCause, int],
    reasons: Mapping[FailureCause, str],
) -> int:
    """Report that no server was there of any target, and why; return the exit code for that."""
    if len(endpoints) == 1:
        return never_reached(endpoints[0], causes, reasons)
    remedy = _remedy_for(endpoints[0], causes, reasons)
    none = f"none of {len(endpoints):,} targets"
    return refuse(f"{none} was ever reached ({counted(causes)}); {remedy}")


def _remedy_for(
    endpoint: Endpoint | str,
    causes: Mapping[FailureCause, int],
    reasons: Mapping[FailureCause, str],
) -> str:
    """Return what to do about what was most often the cause."""
    most = max(causes, key=lambda cause: causes[cause])
    attempt, words = _connecting_to(endpoint), reasons.get(most, "")
    if most is FailureCause.TLS:
        return _tls_remedy(words)
    numbers = [each for each in _REMEDIES[attempt] if isinstance(each, int)]
    by_words = {_words_of(number): number for number in numbers}
    return _remedy(attempt, by_words.get(words, 0), most)


def fell_short(endpoint: Endpoint | str, count: int, words: str) -> int:
    """Report that this machine was at fault, whatever else happened; return the exit code."""
    remedies = {_words_of(number): remedy for number, remedy in _SHORTAGES.items()}
    remedy = remedies.get(words, _LOOK)
    why = f"{words}: " * bool(words)
    return refuse(
        f"{why}{count:,} failures were this machine's own, and say nothing about {endpoint}; "
        f"{remedy}"
    )


def no_room_for(error: BaseException) -> int:
    """Report what this machine lacked in the midst of a command; return the exit code."""
    number = error.errno if isinstance(error, OSError) else errno.ENOMEM
    remedy = _SHORTAGES.get(number or 0, _LOOK)
    return refuse(f"cannot go on: {os.strerror(number or 0).lower()}; {remedy}")


def _words_of(number: int) -> str:
    from techo._shortage import OutOfPortsError

    if number == errno.EADDRNOTAVAIL:
        return str(OutOfPortsError().strerror)
    return os.strerror(number).lower()


def _connecting_to(endpoint: Endpoint | str) -> Attempt:
    by_path = str(endpoint).startswith("unix")
    return Attempt.CONNECT_TO_PATH if by_path else Attempt.CONNECT


def _refuse_for(what: str, error: OSError, attempt: Attempt) -> int:
    # Here, because they import trio, for which --help should not wait.
    import ssl

    from techo._probing.causes import cause_of, first_cause, words_of

    first = first_cause(error)
    words = words_of(first)
    if isinstance(first, ssl.SSLError):
        remedy = _tls_remedy(words)
    else:
        remedy = _remedy(attempt, first.errno or 0, cause_of(first))
    return refuse(f"{what}: {words}; {remedy}")


def _remedy(attempt: Attempt, number: int, cause: FailureCause) -> str:
    remedies = _REMEDIES[attempt]
    if number in remedies:
        return remedies[number]
    if cause is FailureCause.LOCAL and number in _SHORTAGES:
        return _SHORTAGES[number]
    return remedies.get(cause, _OTHERWISE)


def _tls_remedy(words: str) -> str:
    """Return what to do about what `words_of` returned, which has OpenSSL's own words."""
    if "bad certificate (" in words:
        if "mismatch" in words:
            return "--tls-server-name NAME, if it goes by another name"
        if "expired" in words or "not yet valid" in words:
            return "renew it, or check the clock"
        return "--tls-ca FILE with who signed it, if you trust that"
    if "received alert protocol version" in words:
        return "use versions of TLS that it speaks too"
    if "received alert unrecognized name" in words:
        return "--tls-server-name NAME, if it goes by another name"
    if "received alert" in words:  # which is the server's, about us
        return "--tls-cert FILE, if it asks for a client's certificate"
    return "check that it speaks TLS on this port"
