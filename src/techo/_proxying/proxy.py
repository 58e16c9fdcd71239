"""The proxy: what stands between clients and a target, for the length of a block."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import attrs
import trio

from techo._faults.values import FAULTS, Fault, FaultEvent
from techo._memory.listener import BACKLOG, MemoryListener
from techo._memory.stream import MemoryStream
from techo._nursery import check_trio_runs, open_bare_nursery
from techo._one_endpoint import OneEndpoint
from techo._proxying.interception import ProxyInterceptor
from techo._proxying.service import ProxyService
from techo._proxying.target import Connect, Target
from techo._server.limits import Limits
from techo._server.registry import Statistics
from techo._server.service import closing
from techo._validation import FLAG, Requirement
from techo.endpoint import Endpoint

_LIMITS: Final = Requirement("of techo.Limits", lambda value: isinstance(value, Limits))


@attrs.frozen(eq=False, repr=False)
class Proxy(OneEndpoint):
    """Passes everything on between its clients and a target. `open_proxy` opens one."""

    target: Endpoint | Connect
    """Where connections lead to."""
    _service: ProxyService
    _listener: MemoryListener | None
    _interceptor: ProxyInterceptor

    def __repr__(self) -> str:
        places = "".join(f"{endpoint}, " for endpoint in self.endpoints)
        return f"Proxy({places}to {self._interceptor.target}, {self.statistics()!r})"

    async def connect(self) -> MemoryStream:
        """Connect in memory, and return the client's end of the connection.

        Waits while as many as the backlog has room for are not accepted yet. Cancellation
        means that nothing was connected.

        Raises:
            RuntimeError: it listens at endpoints or listeners that it was given.
            ConnectionRefusedError: the proxy is draining, or over.
        """
        if self._listener is None:
            raise RuntimeError("this proxy listens where it was asked to: connect there")
        return await self._listener.connect()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it is listening on now: one for each socket, with the real port."""
        return tuple(self._service.endpoints)

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that clients saw, the last 100,000 of them, the latest last."""
        return tuple(self._interceptor.planner.events)

    @property
    def upstream_history(self) -> tuple[FaultEvent, ...]:
        """The faults that the target saw, likewise; connections have the same numbers."""
        return tuple(self._interceptor.upstream_planner.events)

    def set_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let clients see these in place of what went wrong, in all that comes from now on.

        Without any, nothing goes wrong any more. `first`, `skip` and `every` count from now on;
        the numbers of connections, the seed and the time of `between` go on.

        Connections that are open keep what was planned for them, unless `running`: then they
        are planned anew, the oldest first, as `EchoService.set_faults` does.

        Raises:
            ValueError: one is no fault, or cannot happen where the proxy listens; what was in
                force stays.
        """
        self._set_faults(faults, running=running, upstream=False)

    def set_upstream_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let the target see these in place of what went wrong, as `set_faults`.

        Raises:
            ValueError: one is no fault, or cannot happen to the target; what was in force
                stays.
        """
        self._set_faults(faults, running=running, upstream=True)

    def _set_faults(self, faults: Sequence[Fault], *, running: bool, upstream: bool) -> None:
        FAULTS.check(faults=faults)
        FLAG.check(running=running)
        self._service.set_faults(faults, running=running, upstream=upstream)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters, which are of what clients sent and got."""
        return self._service.statistics()

    async def drain(self) -> None:
        """Stop accepting, end every connection as soon as it is quiet, and return.

        As `EchoService.drain`: a quiet connection ends at once, on both sides, a busy one when
        it pauses; what is left after `Limits.drain_timeout` is aborted, as it is if this is
        cancelled. Calling it again waits for the same end.
        """
        await self._service.drain()


@contextlib.asynccontextmanager
async def open_proxy(
    target: Endpoint | str | Connect,
    *places: Endpoint | str | trio.abc.Listener[Any],
    faults: Sequence[Fault] = (),
    upstream_faults: Sequence[Fault] = (),
    limits: Limits | None = None,
    seed: int = 0,
) -> AsyncIterator[Proxy]:
    """Pass on connections to `target` for the length of a block.

    The target is an endpoint (tcp, mptcp, unix, unixpacket, udp, unixgram), or an async
    function that connects and returns a trio stream, such as `MemoryServer.connect`. Without
    `places` to listen at, which are as in `techo.open_server`, clients connect in memory by
    `Proxy.connect`. TLS is passed through tcp, untouched.

    Each connection has one of its own to the target. Bytes, half-closes and resets pass both
    ways unchanged, and over unixpacket message by message; what one side does not read stops
    the other. A stream that cannot be half-closed, as over TLS, is closed once the other side
    has finished and nothing has moved for 0.25 s.

    `faults` happen to what clients see: to them the target is an echo server with these
    faults. `upstream_faults` happen to what the target sees: a client that misbehaves so. Each
    `offset` counts the bytes sent in that direction, and chance depends on `seed`.

    Each source of datagrams is a connection, too, with a socket of its own to the target. It
    usually ends as `Outcome.IDLE`. Beyond `Limits.max_connections` the source that was quiet
    for longest makes room. `Statistics.datagrams` counts what sources have sent, and as
    `echoed` what was passed on.

    `limits` are those of a server. `Limits.handshake_timeout` is also the time that the target
    has to accept; where it can't be reached, the client is reset: `Outcome.UNREACHABLE`.

    Leaving the block drains it; leaving it by an exception or by cancellation closes
    everything at once, and the exception comes out as it was raised.

    Raises:
        ValueError: a text is no endpoint, or one that can't be passed on, such as tls, or a
            fault cannot happen there.
        OSError: a name is unknown or an address can't be bound; its `filename` is the endpoint.
        RuntimeError: it is not trio that runs here.
    """
    check_trio_runs("open_thread_proxy")
    async with closing(places), open_bare_nursery() as nursery:
        FAULTS.check(faults=faults, upstream_faults=upstream_faults)
        limits = limits or Limits()
        _LIMITS.check(limits=limits)
        service = ProxyService.of(Target.of(target), limits, faults, upstream_faults, seed)
        listener = None if places else MemoryListener(limits.backlog or BACKLOG)
        await nursery.start(service.serve, *([listener] if listener else places))
        interceptor = service.interceptor
        yield Proxy(interceptor.target.place, service, listener, interceptor)
        await service.drain()
