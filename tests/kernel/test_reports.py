"""Reports: what the network says of a packet, its words and its cause."""

from __future__ import annotations

import errno
import socket

import pytest

from helpers import PATIENCE, free_port
from techo._kernel.error_queue import NetworkError, Origin
from techo._kernel.reports import ReportedError, ask_for_reports, reports_of
from techo._probing.causes import cause_of, words_of

SHE = "192.0.2.1"


def report(
    number: int,
    kind: tuple[Origin, int, int],
    info: int = 0,
    offender: str | None = SHE,
) -> ReportedError:
    """Return what an entry of the error queue says."""
    entry = NetworkError(number, *kind, info, offender, b"quoted")
    return ReportedError.of(entry)


@pytest.mark.parametrize(
    ("error", "cause", "words"),
    [
        (
            report(errno.ECONNREFUSED, (Origin.ICMP, 3, 3)),
            "refused",
            f"connection refused by {SHE}",
        ),
        (
            report(errno.ECONNREFUSED, (Origin.ICMP6, 1, 4), 0, "::2"),
            "refused",
            "refused by ::2",
        ),
        (report(errno.ENOPROTOOPT, (Origin.ICMP, 3, 2)), "refused", f"refused by {SHE}"),
        (
            report(errno.EHOSTUNREACH, (Origin.ICMP, 3, 1)),
            "unreachable",
            f"no route to host, says {SHE}",
        ),
        # The system's number is that of a permission, which it is not: it is no fault of ours.
        (
            report(errno.EACCES, (Origin.ICMP6, 1, 1)),
            "unreachable",
            "prohibited by a filter, says",
        ),
        (report(errno.EHOSTUNREACH, (Origin.ICMP, 11, 0)), "ttl-exceeded", f"ran out at {SHE}"),
        (report(errno.EHOSTUNREACH, (Origin.ICMP6, 3, 0)), "ttl-exceeded", f"ran out at {SHE}"),
        (
            report(errno.EMSGSIZE, (Origin.ICMP, 3, 4), 1300),
            "too-large",
            f"too large for {SHE}, whose MTU is 1300 bytes",
        ),
        (
            report(errno.EMSGSIZE, (Origin.LOCAL, 0, 0), 1300, None),
            "too-large",
            "too large for the way, whose MTU is 1300 bytes",
        ),
        # Of a router from before RFC 1191.
        (report(errno.EMSGSIZE, (Origin.ICMP, 3, 4)), "too-large", "whose MTU is not said"),
    ],
    ids=str,
)
def test_each_is_a_cause_with_its_sender(error: ReportedError, cause: str, words: str) -> None:
    """Whatever number the system has for it."""
    assert cause_of(error) == cause
    assert words_of(error).endswith(words) or words in words_of(error)
    assert error.quoted == b"quoted"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_who_has_asked_is_told_who_refuses(host: str) -> None:
    """And which datagram it was about; the error does not come a second time."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        ask_for_reports(sock)
        sock.settimeout(PATIENCE)
        sock.connect((host, free_port(socket.SOCK_DGRAM)))
        sock.send(b"who is there?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)
        sock.setblocking(False)
        (found,) = reports_of(sock)
        assert (found.offender, found.refused, found.quoted) == (
            host,
            True,
            b"who is there?",
        )
        assert reports_of(sock) == []
