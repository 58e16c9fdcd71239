"""The pytest plugin: servers and a closed port as fixtures, with pytest-trio or with anyio.

Every pytest run where techo is installed loads this file, so it imports nothing that the run
would have to wait for; the fixtures do when they are used.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import trio

    from techo._echo_service import EchoService
    from techo._faults.values import Fault
    from techo._memory_server import MemoryServer
    from techo.endpoint import Endpoint

# Each async fixture is one task's business from beginning to end, as both plugins run it. When
# the test is over no peer is left: the servers end at once, without a drain.


@pytest.fixture
async def techo_server() -> AsyncIterator[EchoService]:
    """A `techo.EchoService` on 127.0.0.1 and a free port: `techo_server.endpoint`.

    It sends back every byte unchanged, and is closed when the test is over.
    """
    import trio

    from techo._echo_service import open_server
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
async def techo_faulty_server() -> AsyncIterator[Callable[..., Awaitable[EchoService]]]:
    """A function that starts servers with faults, such as `Stall(after=100)`; to be awaited.

    It takes faults, and as keywords `endpoint` (by default 127.0.0.1 and a free port) and
    whatever else `techo.open_server` takes, such as `seed`. It returns an `EchoService` that
    sends back every byte unchanged, but for the faults. Any number can be started; all are
    closed when the test is over.
    """
    from techo._nursery import open_bare_nursery

    async with open_bare_nursery() as nursery:

        async def start(
            *faults: Fault, endpoint: Endpoint | str = "tcp://127.0.0.1:0", **options: Any
        ) -> EchoService:
            server: EchoService = await nursery.start(_serve_faulty, endpoint, faults, options)
            return server

        yield start
        nursery.cancel_scope.cancel()


async def _serve_faulty(
    endpoint: Endpoint | str,
    faults: Sequence[Fault],
    options: dict[str, Any],
    task_status: trio.TaskStatus[EchoService],
) -> None:
    import trio

    from techo._echo_service import open_server
    from techo.reply import raw

    options = {"reply": raw, **options}
    async with open_server(endpoint, faults=faults, **options) as server:
        task_status.started(server)
        await trio.sleep_forever()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that refuses connections; no other program gets it meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        yield sock.getsockname()[1]
