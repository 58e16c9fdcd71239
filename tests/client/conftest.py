"""What the client's tests share: a server of every kind, with a client of it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import pytest
import trio

import techo
from helpers import PATIENCE

Meet: TypeAlias = Callable[
    [techo.Reply], AbstractAsyncContextManager[tuple[techo.EchoService, techo.EchoClient]]
]
"""Opens a server with a reply, and a client of it, for the length of a block."""


@pytest.fixture
def meet(
    kind: techo.Kind, address: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> Meet:
    """Return what opens server and client there."""
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
