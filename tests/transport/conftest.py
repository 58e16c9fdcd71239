"""What the transports' tests share: both ends of TLS, of either version."""

from __future__ import annotations

import ssl

import pytest
import trustme

from helpers import trust
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport
from wires import Secure


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> str:
    """Return either version of TLS that is in use."""
    return str(request.param)


@pytest.fixture
def contexts(authority: trustme.CA, version: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a client's and a server's context that speak that version only."""
    client = trust(authority)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    only = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    client.minimum_version = client.maximum_version = only
    return client, server


@pytest.fixture
def secure(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Secure:
    """Return what puts TLS of that version over a connection."""

    def over(ours: Transport, theirs: Transport) -> tuple[TlsTransport, TlsTransport]:
        return (
            TlsTransport(ours, contexts[0], server_hostname="localhost"),
            TlsTransport(theirs, contexts[1], server_side=True),
        )

    return over
