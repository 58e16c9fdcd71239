"""The pytest plugin: servers that misbehave and a port that refuses, as fixtures.

Every pytest run where techo is installed loads this file, so it imports nothing that the run
would have to wait for; the fixtures do when they are used.
"""

from __future__ import annotations

import contextlib
import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    import trio

    from techo._echo_service import EchoService
    from techo._faults.values import Fault
    from techo._fixtures import StartProxy, StartServer, StartThreadProxy, StartThreadServer
    from techo._memory_server import MemoryServer
    from techo._proxying.proxy import Proxy
    from techo._proxying.target import Connect
    from techo._threads.proxy import ProxyOptions, ThreadProxy
    from techo._threads.server import ServerOptions, ThreadServer
    from techo.endpoint import Endpoint

T = TypeVar("T")
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
    from techo._echo_service import open_server
    from techo.reply import raw

    async with _starting() as start_block:

        async def start(
            *faults: Fault,
            endpoint: Endpoint | str = LOOPBACK,
            **options: Unpack[ServerOptions],
        ) -> EchoService:
            _refuse_faults(options)
            options = {"reply": raw, **options}
            return await start_block(open_server(endpoint, faults=faults, **options))

        yield start


@pytest.fixture
async def techo_proxy() -> AsyncIterator[StartProxy]:
    """A function that starts proxies with faults, for async tests under trio; to be awaited.
    `await techo_proxy("localhost:8080", Stall(after=100))` returns a `techo.testing.Proxy`
    before your own server: everything is passed on unchanged but for the faults, which happen
    to what your client gets. Keywords are `upstream_faults`, for what the server gets,
    `endpoint` (by default 127.0.0.1 and a free port), `seed` and `limits`. Any number can be
    started; all are closed when the test is over.
    """
    from techo._proxying.proxy import open_proxy
    from techo._threads.proxy import place_before

    async with _starting() as start_block:

        async def start(
            target: Endpoint | str | Connect,
            *faults: Fault,
            endpoint: Endpoint | str | None = None,
            **options: Unpack[ProxyOptions],
        ) -> Proxy:
            _refuse_faults(options)
            place = endpoint or place_before(target)
            return await start_block(open_proxy(target, place, faults=faults, **options))

        yield start


@contextlib.asynccontextmanager
async def _starting() -> AsyncIterator[
    Callable[[AbstractAsyncContextManager[T]], Awaitable[T]]
]:
    """Yield a function that opens blocks, each in a task; all are cancelled in the end."""
    from techo._nursery import open_bare_nursery

    async with open_bare_nursery() as nursery:

        async def start(block: AbstractAsyncContextManager[T]) -> T:
            opened: T = await nursery.start(_keep_open, block)
            return opened

        yield start
        nursery.cancel_scope.cancel()


def _refuse_faults(options: Mapping[str, object]) -> None:
    """Refuse the keyword that `techo.open_server` has, which is what people try first."""
    if "faults" in options:
        raise TypeError(
            "this takes faults as arguments, each alone: Reset(), not faults=[Reset()]"
        )


async def _keep_open(
    block: AbstractAsyncContextManager[T], task_status: trio.TaskStatus[T]
) -> None:
    import trio

    async with block as opened:
        task_status.started(opened)
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
            _refuse_faults(options)
            options = {"reply": raw, **options}
            return servers.enter_context(open_thread_server(endpoint, faults=faults, **options))

        yield start


@pytest.fixture
def techo_thread_proxy() -> Iterator[StartThreadProxy]:
    """A function that starts proxies with faults, for tests that are not async and for asyncio.
    `techo_thread_proxy("localhost:8080", Stall(after=100))` returns a
    `techo.testing.ThreadProxy` before your own server, which runs in a thread of its own:
    everything is passed on unchanged but for the faults, which happen to what your client
    gets. Keywords are `upstream_faults`, for what the server gets, `endpoint` (by default
    127.0.0.1 and a free port), `seed` and `limits`. Any number can be started; all are closed
    when the test is over. What a proxy fails with is an error of the test's teardown.
    """
    from techo._threads.proxy import open_thread_proxy

    with contextlib.ExitStack() as proxies:

        def start(
            target: Endpoint | str | Connect,
            *faults: Fault,
            endpoint: Endpoint | str | None = None,
            **options: Unpack[ProxyOptions],
        ) -> ThreadProxy:
            _refuse_faults(options)
            places = [] if endpoint is None else [endpoint]
            return proxies.enter_context(
                open_thread_proxy(target, *places, faults=faults, **options)
            )

        yield start


@pytest.fixture
def techo_closed_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that refuses connections, for any test.
    It is reserved, so that no other program gets it before the test is over.
    """
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        yield sock.getsockname()[1]


_FOR_TRIO: Final = {
    "techo_server": "techo_thread_server",
    "techo_memory_server": "techo_thread_server",
    "techo_faulty_server": "techo_thread_server",
    "techo_proxy": "techo_thread_proxy",
}
"""The fixtures that need trio, each with the one that does the same elsewhere."""


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
    instead = f"use {_FOR_TRIO[str(request.fixturename)]}"
    trio, anyio, asyncio = map(plugins.has_plugin, ("trio", "anyio", "asyncio"))
    # In its auto mode pytest-asyncio marks all async tests, those of others too, and runs them.
    by_asyncio = asyncio and test.get_closest_marker("asyncio")
    if trio and test.get_closest_marker("trio") and not by_asyncio:
        return None
    if anyio and "anyio_backend" in request.fixturenames:
        backend = request.getfixturevalue("anyio_backend")
        if "trio" in (backend, backend[0]):  # a name, or a name with options
            return None
        return (
            f"needs trio, and anyio runs this test on asyncio: {instead}, or let your fixture "
            "anyio_backend return 'trio'"
        )
    if by_asyncio:
        return f"needs trio, and pytest-asyncio runs this test: {instead}"
    function = getattr(test, "obj", None)
    handle = getattr(function, "hypothesis", None)
    if not inspect.iscoroutinefunction(getattr(handle, "inner_test", function)):
        return f"is for async tests, and this one is not async: {instead}"
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
