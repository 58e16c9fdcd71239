"""The pytest plugin: servers that misbehave and a port that refuses, as fixtures.

Every pytest run where techo is installed loads this file, so it imports nothing that the run
would have to wait for; the fixtures do when they are used.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Unpack

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    import trio

    from techo._echo_service import EchoService
    from techo._faults.values import Fault
    from techo._fixtures import StartServer, StartThreadServer
    from techo._memory_server import MemoryServer
    from techo._threads.server import ServerOptions, ThreadServer
    from techo.endpoint import Endpoint

LOOPBACK: Final = "tcp://127.0.0.1:0"

# Each async fixture is one task's business from beginning to end, as both plugins run it. When
# the test is over no peer is left: the servers end at once, without a drain.


@pytest.fixture
async def techo_server() -> AsyncIterator[EchoService]:
    """A `techo.EchoService` that sends back every byte unchanged, for async tests under trio.
    It listens on 127.0.0.1 and a free port, `techo_server.port`. Use it with pytest-trio, or
    with anyio's plugin on its trio backend. It is closed when the test is over.
    """
    import trio

    from techo._echo_service import open_server
    from techo.reply import raw

    with trio.CancelScope() as scope:
        async with open_server(LOOPBACK, reply=raw) as server:
            yield server
            scope.cancel()


@pytest.fixture
async def techo_memory_server() -> AsyncIterator[MemoryServer]:
    """A `techo.testing.MemoryServer`, which has no sockets, for async tests under trio.
    `await techo_memory_server.connect()` returns a stream, on which every byte comes back
    unchanged. With pytest-trio's `autojump_clock` waiting takes no time. It is closed when the
    test is over.
    """
    import trio

    from techo._memory_server import open_memory_server
    from techo.reply import raw

    with trio.CancelScope() as scope:
        async with open_memory_server(reply=raw) as server:
            yield server
            scope.cancel()


@pytest.fixture
async def techo_faulty_server() -> AsyncIterator[StartServer]:
    """A function that starts servers with faults, for async tests under trio; to be awaited.
    `await techo_faulty_server(Stall(after=100))` returns a `techo.EchoService`, which sends
    back every byte unchanged but for the faults. Keywords are `endpoint` (by default 127.0.0.1
    and a free port) and whatever else `techo.open_server` takes, such as `seed`. Any number
    can be started; all are closed when the test is over.
    """
    from techo._nursery import open_bare_nursery

    async with open_bare_nursery() as nursery:

        async def start(
            *faults: Fault,
            endpoint: Endpoint | str = LOOPBACK,
            **options: Unpack[ServerOptions],
        ) -> EchoService:
            server: EchoService = await nursery.start(_serve_faulty, endpoint, faults, options)
            return server

        yield start
        nursery.cancel_scope.cancel()


async def _serve_faulty(
    endpoint: Endpoint | str,
    faults: Sequence[Fault],
    options: ServerOptions,
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
def techo_thread_server() -> Iterator[StartThreadServer]:
    """A function that starts servers with faults, for tests that are not async and for asyncio.
    `techo_thread_server(Stall(after=100))` returns a `techo.testing.ThreadServer`, which runs
    in a thread of its own and sends back every byte unchanged but for the faults. Keywords are
    `endpoint` (by default 127.0.0.1 and a free port) and whatever else `techo.open_server`
    takes, such as `seed`. Any number can be started; all are closed when the test is over.
    What a server fails with is an error of the test's teardown.
    """
    from techo._threads.server import open_thread_server
    from techo.reply import raw

    with contextlib.ExitStack() as servers:

        def start(
            *faults: Fault,
            endpoint: Endpoint | str = LOOPBACK,
            **options: Unpack[ServerOptions],
        ) -> ThreadServer:
            options = {"reply": raw, **options}
            return servers.enter_context(open_thread_server(endpoint, faults=faults, **options))

        yield start


@pytest.fixture
def techo_closed_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that refuses connections, for any test.
    It is reserved, so that no other program gets it before the test is over.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        yield sock.getsockname()[1]


_FOR_TRIO: Final = {"techo_server", "techo_memory_server", "techo_faulty_server"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Let a fixture that needs trio fail by a sentence of ours where no trio would run it."""
    function: Any = fixturedef.func
    ours = fixturedef.argname in _FOR_TRIO and function.__module__ == __name__
    if not ours or (obstacle := _obstacle(request)) is None:
        return (yield)

    def refuse() -> None:
        pytest.fail(f"{fixturedef.argname} {obstacle}", pytrace=False)

    changed: Any = fixturedef  # as other plugins do that run fixtures in their own way
    changed.func = refuse
    try:
        return (yield)
    finally:
        changed.func = function


def _obstacle(request: pytest.FixtureRequest) -> str | None:
    """Return why trio would not run a fixture for a test, and the remedy; None if it does."""
    test, plugins = request.node, request.config.pluginmanager
    trio, anyio, asyncio = map(plugins.has_plugin, ("trio", "anyio", "asyncio"))
    if trio and test.get_closest_marker("trio"):
        return None
    if anyio and "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        if "trio" in (backend, backend[0]):  # a name, or a name with options
            return None
        return (
            "needs trio, and anyio runs this test on asyncio: use techo_thread_server, or let "
            "your fixture anyio_backend return 'trio'"
        )
    if asyncio and test.get_closest_marker("asyncio"):
        return "needs trio, and pytest-asyncio runs this test: use techo_thread_server"
    function = getattr(test, "obj", None)
    handle = getattr(function, "hypothesis", None)
    if not inspect.iscoroutinefunction(getattr(handle, "inner_test", function)):
        return "is for async tests, and this one is not async: use techo_thread_server"
    if trio:
        return (
            "needs trio, and this test is not marked for it: write @pytest.mark.trio above it, "
            "or trio_mode = true into pytest's configuration"
        )
    if anyio:
        return (
            "needs trio, and this test is not marked for it: write @pytest.mark.anyio above "
            "it, with a fixture anyio_backend that returns 'trio'"
        )
    return "needs a plugin that runs async tests under trio: install pytest-trio"
