"""TLS from the client's side: whom it trusts, and that failing to is told when connecting."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, open_descriptors, trust


@pytest.fixture
async def server(server_tls: ssl.SSLContext) -> AsyncIterator[techo.EchoService]:
    """Serve as 127.0.0.1 and localhost."""
    async with techo.open_server("tls://127.0.0.1:0", tls=server_tls) as server:
        yield server


async def refused(
    endpoint: techo.Endpoint | str,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> OSError:
    """Return what connecting fails with; no descriptor is left of it."""
    before = await open_descriptors()
    with pytest.raises(OSError, match=r".") as caught:
        async with techo.open_client(endpoint, tls=tls, server_name=server_name):
            raise AssertionError("it can't be connected")
    with trio.fail_after(PATIENCE):
        while await open_descriptors() > before:  # noqa: ASYNC110  -- the server sees the end
            await trio.sleep(0.001)  # it closes its own without an event for us
    return caught.value


async def test_nobody_is_trusted_who_is_not_told_to_be(server: techo.EchoService) -> None:
    """The system does not know the tests' own authority."""
    error = await refused(server.endpoints[0])
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert "unable to get local issuer certificate" in str(error)


async def test_the_name_must_be_the_certificate_s(
    server: techo.EchoService, client_tls: ssl.SSLContext
) -> None:
    """The name is the host's unless another is given, for addresses as for names."""
    endpoint = server.endpoints[0]
    for name in ("elsewhere.example", "127.0.0.2"):
        error = await refused(endpoint, client_tls, name)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "mismatch" in str(error)
    async with techo.open_client(endpoint, tls=client_tls, server_name="localhost") as client:
        assert (await client.round_trip(b"hello")).reply.endswith(b"hello")
    with pytest.raises(ValueError, match="server name"):
        async with techo.open_client(endpoint, tls=client_tls, server_name=""):
            raise AssertionError("it can't be connected")


async def test_whoever_trusts_anybody_gets_through(server: techo.EchoService) -> None:
    """A context may accept any certificate."""
    careless = trust(trustme.CA())
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    async with techo.open_client(server.endpoints[0], tls=careless) as client:
        assert (await client.round_trip(b"hello")).reply.endswith(b"hello")


async def test_a_server_without_tls_is_told_when_connecting(client_tls: ssl.SSLContext) -> None:
    """It echoes our greeting, which is no answer."""
    async with techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server:
        error = await refused(f"tls://127.0.0.1:{server.endpoints[0].port}", client_tls)
    assert isinstance(error, ssl.SSLError)


async def test_a_handshake_that_takes_too_long_is_the_caller_s_to_end(
    client_tls: ssl.SSLContext,
) -> None:
    """Closing does not wait for a server that never answered."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        before = await open_descriptors()
        with trio.fail_after(PATIENCE), trio.move_on_after(0.05) as scope:
            async with techo.open_client(f"tls://127.0.0.1:{port}", tls=client_tls):
                raise AssertionError("it can't be connected")
        assert scope.cancelled_caught
        assert await open_descriptors() == before


async def test_a_server_that_wants_a_certificate_gets_it(
    server_tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    """Without one the first trip fails, because TLS 1.3 reports no earlier."""
    wanting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(wanting)
    authority.configure_trust(wanting)
    wanting.verify_mode = ssl.CERT_REQUIRED
    async with techo.open_server("tls://127.0.0.1:0", tls=wanting) as server:
        for known in (True, False):
            context = trust(authority)
            if known:
                authority.issue_cert("me").configure_cert(context)
            async with techo.open_client(server.endpoints[0], tls=context) as client:
                if known:
                    await client.round_trip(b"hello")
                else:
                    with pytest.raises(trio.BrokenResourceError):
                        await client.round_trip(b"hello")


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "udp://127.0.0.1:1", "unix:/x"])
async def test_tls_for_what_is_not_tls_is_a_value_error(
    endpoint: str, client_tls: ssl.SSLContext
) -> None:
    """Nothing is sent in the clear that was to be encrypted."""
    for tls, name in ((client_tls, None), (None, "localhost")):
        with pytest.raises(ValueError, match=f"{endpoint} is not tls"):
            async with techo.open_client(endpoint, tls=tls, server_name=name):
                raise AssertionError("it can't be connected")
