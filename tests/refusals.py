"""Handshakes that fail: what is wrong with one side's TLS, the alert, and who meets it."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import pytest
import trio
import trustme

import techo
from helpers import PATIENCE
from loads import check
from pings import see

VERSIONS: Final = ("TLSv1_2", "TLSv1_3")


def only(context: ssl.SSLContext, version: str) -> None:
    """Let a side speak one version of TLS."""
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]


def without_certificate(_client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Ask for a certificate that the client does not have."""
    server.verify_mode = ssl.CERT_REQUIRED


def with_foreign_certificate(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Show one that nobody knows."""
    server.verify_mode = ssl.CERT_REQUIRED
    trustme.CA().issue_cert("me.example").configure_cert(client)


def of_another_version(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Speak a version that the server has given up, or does not know yet."""
    old = client.maximum_version is ssl.TLSVersion.TLSv1_2
    only(server, "TLSv1_3" if old else "TLSv1_2")


def with_other_ciphers(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Offer nothing that the server would take."""
    server.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384")
    client.set_ciphers("ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-CHACHA20-POLY1305")


def from_a_stranger(_client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Show a server's certificate that the client does not know."""
    trustme.CA().issue_cert("127.0.0.1", "localhost").configure_cert(server)


def too_late(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Show a server's certificate that has expired."""
    authority = trustme.CA()
    authority.configure_trust(client)
    yesterday = dt.datetime.now(tz=dt.UTC) - dt.timedelta(days=1)
    authority.issue_cert(
        "127.0.0.1", not_before=yesterday - dt.timedelta(days=1), not_after=yesterday
    ).configure_cert(server)


def by_another_name(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Show a server's certificate for another host."""
    authority = trustme.CA()
    authority.configure_trust(client)
    authority.issue_cert("elsewhere.example").configure_cert(server)


REASONS: Final[dict[Callable[[ssl.SSLContext, ssl.SSLContext], None], str]] = {
    without_certificate: "peer did not return a certificate",
    with_foreign_certificate: "bad certificate",
    of_another_version: "unsupported protocol",
    with_other_ciphers: "no shared cipher",
}


@attrs.frozen
class Refusal:
    """One way to fail over one version of TLS."""

    spoil: Callable[[ssl.SSLContext, ssl.SSLContext], None]
    version: str
    alert: str
    """Its name in RFC 8446, 6.2, in words."""
    by_client: bool = False
    """Whether the client sends it."""

    def __str__(self) -> str:
        return f"{self.spoil.__name__}-{self.version}"

    @property
    def reason(self) -> str:
        """What the server finds wrong, if it is the server that refuses."""
        return "" if self.by_client else REASONS[self.spoil]

    def prepare(self, client: ssl.SSLContext, server: ssl.SSLContext) -> None:
        """Make the handshake of these two fail."""
        only(client, self.version)
        self.spoil(client, server)


REFUSALS: Final = (
    Refusal(without_certificate, "TLSv1_2", "handshake failure"),
    Refusal(without_certificate, "TLSv1_3", "certificate required"),
    *(Refusal(with_foreign_certificate, version, "unknown ca") for version in VERSIONS),
    *(Refusal(of_another_version, version, "protocol version") for version in VERSIONS),
    Refusal(with_other_ciphers, "TLSv1_2", "handshake failure"),
    *(Refusal(from_a_stranger, version, "unknown ca", by_client=True) for version in VERSIONS),
    *(
        Refusal(too_late, version, "certificate expired", by_client=True)
        for version in VERSIONS
    ),
    *(
        Refusal(by_another_name, version, "bad certificate", by_client=True)
        for version in VERSIONS
    ),
)


Client = Callable[[techo.Endpoint, ssl.SSLContext], Awaitable[str]]
"""What does something with a server; returns what it says has failed."""


async def one_trip(endpoint: techo.Endpoint, tls: ssl.SSLContext) -> str:
    """Connect, and make a trip if that can be done."""
    with pytest.raises((OSError, trio.BrokenResourceError)) as caught:
        async with techo.open_client(endpoint, tls=tls) as client:
            await client.round_trip(b"hello")
    return " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


async def ping(endpoint: techo.Endpoint, tls: ssl.SSLContext) -> str:
    """Send two probes."""
    seen = await see(techo.ping(endpoint, count=2, interval=0.01, timeout=PATIENCE, tls=tls))
    assert seen.words == "tls tls"
    return seen.results[-1].reason if isinstance(seen.results[-1], techo.PingFailure) else ""


async def load(endpoint: techo.Endpoint, tls: ssl.SSLContext) -> str:
    """Make four trips, or try to."""
    report = check(
        await techo.load(endpoint, connections=1, trips=4, timeout=PATIENCE, tls=tls)
    )
    assert set(report.failures) == {techo.FailureCause.TLS}
    return report.reasons[techo.FailureCause.TLS]


async def checks(endpoint: techo.Endpoint, tls: ssl.SSLContext) -> str:
    """Check the service."""
    with pytest.raises(ssl.SSLError) as caught:
        await techo.testing.check_echo_service(endpoint, tls=tls)
    return " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


async def trio_s_own(endpoint: techo.Endpoint, tls: ssl.SSLContext) -> str:
    """Send as soon as this side has shaken hands, and then receive, with none of our code."""
    below = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    stream = trio.SSLStream(below, tls, server_hostname="127.0.0.1")
    try:
        await stream.send_all(bytes(100_000))
        await stream.receive_some()
    except trio.BrokenResourceError as error:
        return str(error.__cause__)
    finally:
        await trio.aclose_forcefully(stream)  # noqa: ASYNC102  -- waits for nothing
    raise AssertionError("it was not refused")


CLIENTS: Final = (one_trip, ping, load, checks)
