"""What the client's tests share: certificates, and a server of every kind."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
import trustme

import techo
from helpers import PATIENCE

Meet: TypeAlias = Callable[
    [techo.Reply], AbstractAsyncContextManager[tuple[techo.EchoService, techo.EchoClient]]
]
"""Opens a server with a reply, and a client of it, for the length of a block."""


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs certificates; a session's worth of it, because keys take long."""
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server that is 127.0.0.1 and localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    """A client that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=[each for each in techo.Kind if each is not techo.Kind.FD])
def kind(request: pytest.FixtureRequest) -> techo.Kind:
    """Every kind that a client can connect to."""
    return techo.Kind(request.param)


@pytest.fixture
def address(kind: techo.Kind, tmp_path: Path) -> str:
    """A place of that kind to listen on."""
    if kind.startswith("unix"):
        return f"{kind}:{tmp_path}/s"
    return f"{kind}://127.0.0.1:0"


@pytest.fixture
def meet(
    kind: techo.Kind, address: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> Meet:
    """Opens server and client there."""
    trusting = client_tls if kind is techo.Kind.TLS else None

    @contextlib.asynccontextmanager
    async def meeting(
        reply: techo.Reply,
    ) -> AsyncIterator[tuple[techo.EchoService, techo.EchoClient]]:
        async with (
            techo.open_server(address, reply=reply, tls=server_tls) as server,
            techo.open_client(server.endpoints[0], tls=trusting) as client,
        ):
            with trio.fail_after(PATIENCE):
                yield server, client

    return meeting
