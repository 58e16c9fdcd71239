"""What tests by property share: calls on virtual time, through a proxy, by plans of faults."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from unittest import mock

import attrs
import trio
import trio.testing
import trustme
from hypothesis import HealthCheck, Phase, settings
from trio.testing import MockClock

from techo.testing import Corrupt, Fault, FaultPlan, Lengthen, MemoryStream, Proxy, open_proxy

LIES: list[type[Fault]] = [Corrupt, Lengthen]
"""What no network does and no checksum of these protocols would notice."""

THOROUGH = settings(
    max_examples=100,
    deadline=None,  # virtual time makes one in real time meaningless
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],  # as a machine may be
    phases=[Phase.generate, Phase.shrink],  # explaining takes a hundred runs more
)
FINDING = settings(THOROUGH, max_examples=2000)

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


@attrs.frozen
class End:
    """How a call of a client has ended."""

    result: bytes | None
    """What it has returned; None if it failed with an error that it promises."""
    seconds: float
    """How long it took, in virtual time."""
    error: Exception | None = None


def end_of(plan: FaultPlan, serve: Serve, call: Callable[[Proxy], Awaitable[End]]) -> End:
    """Return how a call ends on virtual time, through a proxy with the faults of a plan."""

    async def main() -> End:
        async with behind(plan, serve) as proxy:
            return await call(proxy)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@contextlib.asynccontextmanager
async def behind(plan: FaultPlan, serve: Serve) -> AsyncIterator[Proxy]:
    """Return a proxy in memory to what serves; at the end all is closed at once."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def connect_in_memory() -> MemoryStream:
                ours, theirs = MemoryStream.pair()
                nursery.start_soon(serve, theirs)
                await trio.lowlevel.checkpoint()
                return ours

            async with open_proxy(
                connect_in_memory,
                faults=plan.faults,
                upstream_faults=plan.upstream_faults,
                seed=plan.seed,
            ) as proxy:
                yield proxy
                scope.cancel()


async def connect_to(proxy: Proxy) -> MemoryStream:
    """Connect, and let all happen that happens before the client does something itself."""
    stream = await proxy.connect()
    await trio.testing.wait_all_tasks_blocked()
    return stream


def open_by(proxy: Proxy) -> contextlib.AbstractContextManager[object]:
    """Have all connections that are opened by their addresses opened to the proxy."""

    async def open_tcp_stream(*_places: object, **_options: object) -> MemoryStream:
        return await connect_to(proxy)

    return mock.patch.object(trio, "open_tcp_stream", open_tcp_stream)


async def timed(call: Awaitable[bytes], *promised: type[Exception]) -> End:
    """Return how a call ends; what it does not promise to raise comes out."""
    begin = trio.current_time()
    try:
        result = await call
    except promised as error:
        return End(None, trio.current_time() - begin, error)
    return End(result, trio.current_time() - begin)


NAME = "server.example"
"""Whose certificate it is."""

_AUTHORITY = trustme.CA()


def trusting() -> ssl.SSLContext:
    """Return the context of a client that trusts the server; making one takes its time."""
    context = ssl.create_default_context()
    _AUTHORITY.configure_trust(context)
    return context


def secured(serve: Serve) -> Serve:
    """Return a server that serves the same over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _AUTHORITY.issue_cert(NAME).configure_cert(context)

    async def serve_securely(stream: trio.abc.Stream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        with contextlib.suppress(trio.BrokenResourceError):
            await serve(tls)
        await trio.aclose_forcefully(tls)

    return serve_securely
