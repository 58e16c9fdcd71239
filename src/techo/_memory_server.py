"""The memory server: the echo service with no sockets under it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import attrs
import trio

from techo._faults.plan import check_applicable
from techo._faults.values import Fault, FaultEvent
from techo._memory.listener import BACKLOG, MemoryListener
from techo._memory.stream import BUFFER_SIZE, MemoryStream
from techo._nursery import open_bare_nursery
from techo._server.ledger import Statistics
from techo._server.limits import Limits
from techo._server.service import EchoService
from techo.reply import Reply, stamped


@attrs.frozen(eq=False)
class _Accepting:
    """The accept loop, which ends before the connections it has accepted."""

    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _closed: trio.Event = attrs.field(factory=trio.Event)

    async def run(
        self, service: EchoService, listener: MemoryListener, handlers: trio.Nursery
    ) -> None:
        """Accept until stopped or cancelled, and then close the listener."""
        try:
            with self._scope:
                await trio.serve_listeners(service.handle, [listener], handler_nursery=handlers)
        finally:
            self._closed.set()

    async def stop(self) -> None:
        """Close the listener, and return when it is closed."""
        self._scope.cancel(reason="draining")
        await self._closed.wait()


@attrs.frozen(eq=False)
class MemoryServer:
    """An `EchoService` that serves connections from inside this process."""

    service: EchoService
    """What answers; nothing in it knows that there are no sockets."""
    listener: MemoryListener
    """What it accepts connections from."""
    _accepting: _Accepting

    async def connect(self) -> MemoryStream:
        """Connect, and give the client's end of the connection.

        Raises:
            ConnectionRefusedError: the server is draining, or over.
        """
        return await self.listener.connect()

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that were put into effect, as `EchoService.history`."""
        return self.service.history

    def statistics(self) -> Statistics:
        """Take a snapshot of the counters."""
        return self.service.statistics()

    async def drain(self) -> None:
        """Stop accepting, then drain as `EchoService.drain` does."""
        await self._accepting.stop()
        await self.service.drain()


@contextlib.asynccontextmanager
async def open_memory_server(
    *,
    reply: Reply = stamped,
    limits: Limits | None = None,
    faults: Sequence[Fault] = (),
    seed: int = 0,
    buffer_size: int = BUFFER_SIZE,
) -> AsyncIterator[MemoryServer]:
    """Serve connections from inside this process for the length of a block.

    Gives a `MemoryServer`, whose `connect` gives client streams with `buffer_size` bytes of
    room in each direction. Nothing waits for a kernel, so all times can be those of an
    autojump clock. Leaving the block drains it; leaving it by an exception or by cancellation
    closes everything at once, and the exception comes out as it was raised.

    Raises:
        ValueError: `buffer_size` is less than 1, or a fault cannot happen in memory.
    """
    check_applicable(faults, "memory", "memory")
    limits = limits or Limits()
    listener = MemoryListener(limits.backlog or BACKLOG, buffer_size=buffer_size)
    service = EchoService(reply, limits=limits, faults=faults, seed=seed)
    accepting = _Accepting()
    server = MemoryServer(service, listener, accepting)
    async with open_bare_nursery() as handlers:
        handlers.start_soon(accepting.run, service, listener, handlers)
        yield server
        await server.drain()
