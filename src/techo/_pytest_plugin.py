"""The pytest plugin: servers and a closed port as fixtures, with pytest-trio or with anyio.

Every pytest run where techo is installed loads this file, so it imports nothing that the run
would have to wait for; the fixtures do when they are used.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from techo._memory_server import MemoryServer
    from techo._server.service import EchoService

# Each async fixture is one task's business from beginning to end, as both plugins run it. When
# the test is over nobody is left to be polite to: the servers end at once, without a drain.


@pytest.fixture
async def techo_server() -> AsyncIterator[EchoService]:
    """A `techo.EchoService` on 127.0.0.1 and a free port: `techo_server.endpoints[0]`.

    It sends back every byte unchanged, and is closed when the test is over.
    """
    import trio

    from techo._server.service import open_server
    from techo.reply import raw

    with trio.CancelScope() as scope:
        async with open_server("tcp://127.0.0.1:0", reply=raw) as server:
            yield server
            scope.cancel()


@pytest.fixture
async def techo_memory_server() -> AsyncIterator[MemoryServer]:
    """A `techo.testing.MemoryServer`, to be used with an autojump clock: `connect()` to it.

    It sends back every byte unchanged, and is closed when the test is over.
    """
    import trio

    from techo._memory_server import open_memory_server
    from techo.reply import raw

    with trio.CancelScope() as scope:
        async with open_memory_server(reply=raw) as server:
            yield server
            scope.cancel()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that refuses connections; nobody else gets it meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        yield sock.getsockname()[1]
