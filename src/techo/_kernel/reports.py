"""Reports: what the network says of a packet that did not arrive, and who says it.

They come by ICMP, from a router or from the destination. Linux keeps them in the error queue of
the socket that sent the packet, where that asked for them (IPRECVERR, ip(7)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Final

from techo._kernel.error_queue import RECVERR, NetworkError, Origin, read_errors
from techo._kernel.options import LINUX

_EXPIRED: Final = {Origin.ICMP: 11, Origin.ICMP6: 3}
"""The type of ICMP that says so."""

_REFUSED: Final = {
    (Origin.ICMP, 3, 3),
    (Origin.ICMP6, 1, 4),
    # And the protocol, not the port.
    (Origin.ICMP, 3, 2),
    (Origin.ICMP6, 4, 1),
}
"""Where the destination itself has nobody for the packet (RFC 792, RFC 4443)."""

_WORDS: Final = {
    (Origin.ICMP, 3, 9): "the network is prohibited",
    (Origin.ICMP, 3, 10): "the host is prohibited",
    (Origin.ICMP, 3, 13): "prohibited by a filter",
    (Origin.ICMP6, 1, 1): "prohibited by a filter",
    (Origin.ICMP6, 1, 5): "the source address is prohibited",
    (Origin.ICMP6, 1, 6): "the route is prohibited",
}
"""Where the system's error says less, or blames this machine."""


class ReportedError(OSError):
    """A packet did not arrive, and somebody has said why; `strerror` has it in words."""

    offender: str | None = None
    """The address of who says so; None if that is this machine."""
    mtu: int | None = None
    """Bytes of the largest packet that would fit, if that is what was wrong."""
    expired: bool = False
    """Whether its TTL ran out on the way."""
    refused: bool = False
    """Whether it was at its destination, and nobody is there."""
    local: bool = False
    """Whether it never left, for all that this machine knows of the way."""
    quoted: bytes = b""
    """What it carried, as far as the report has it."""

    @classmethod
    def of(cls, report: NetworkError) -> ReportedError:
        """Return what an entry of the error queue says."""
        error = cls(report.errno, os.strerror(report.errno).lower())
        kind = report.origin, report.type, report.code
        error.offender = report.offender
        error.expired = report.type == _EXPIRED.get(report.origin)
        error.refused = kind in _REFUSED
        error.local, error.quoted = report.origin is Origin.LOCAL, report.data
        if report.errno == errno.EMSGSIZE:
            error.mtu = report.info or None
        error.strerror = error._in_words(_WORDS.get(kind, str(error.strerror)))
        return error

    def _in_words(self, what: str) -> str:
        if self.errno == errno.EMSGSIZE:
            mtu = f" {self.mtu} bytes" if self.mtu else " not said"
            if self.offender is None:
                return f"too large for the way, whose MTU is{mtu}"
            return f"too large for {self.offender}, whose MTU is{mtu}"
        if self.offender is None:
            return what
        if self.expired:
            return f"its TTL ran out at {self.offender}"
        if self.refused:
            return f"connection refused by {self.offender}"
        return f"{what}, says {self.offender}"


def ask_for_reports(sock: socket.socket, *, wanted: bool = True) -> None:
    """Have what the network reports kept in the error queue, where there is one.

    Who has asked must empty that queue: as long as it has something, the socket is ready.
    """
    found = RECVERR.get(sock.family) if LINUX else None
    if found is not None:
        with contextlib.suppress(OSError):  # MPTCP has none
            sock.setsockopt(*found, int(wanted))


@contextlib.contextmanager
def standard(fd: int) -> Iterator[socket.socket]:
    """Have the socket of a descriptor as Python's own, for calls that never wait."""
    same = socket.socket(fileno=fd)
    try:
        yield same
    finally:
        same.detach()


@contextlib.contextmanager
def reports_raised(sock: socket.socket) -> Iterator[None]:
    """Raise the network's report of why connecting in a block has failed, where there is one.

    Once connected, such reports may be about what passes (RFC 1122, 4.2.3.9), and are not
    asked for.
    """
    ask_for_reports(sock)
    try:
        yield
    except OSError as error:
        raise reported(sock, error) from None
    ask_for_reports(sock, wanted=False)


def reported(sock: socket.socket, error: OSError) -> OSError:
    """Return the latest report behind an error of a socket; the error if there is none."""
    found = [each for each in reports_of(sock) if each.errno == error.errno]
    return found[-1] if found else error


def reports_of(sock: socket.socket) -> list[ReportedError]:
    """Return all that the network has reported; the error queue is empty then."""
    if not LINUX or sock.family not in RECVERR or sock.fileno() < 0:
        return []
    entries = read_errors(sock)
    return [ReportedError.of(each) for each in entries if isinstance(each, NetworkError)]
