"""The memory server: the echo service with no sockets under it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import attrs

from techo._echo_service import EchoService, open_server
from techo._faults.values import Fault, FaultEvent
from techo._memory.listener import BACKLOG, MemoryListener
from techo._memory.stream import BUFFER_SIZE, MemoryStream
from techo._server.limits import Limits
from techo._server.registry import Statistics
from techo.reply import Reply, stamped


@attrs.frozen(eq=False)
class MemoryServer:
    """An `EchoService` that serves connections from inside this process."""

    service: EchoService
    """What answers; nothing in it knows that there are no sockets."""
    listener: MemoryListener
    """What it accepts connections from."""

    async def connect(self) -> MemoryStream:
        """Connect, and return the client's end of the connection.

        Raises:
            ConnectionRefusedError: the server is draining, or over.
        """
        return await self.listener.connect()

    @property
    def history(self) -> tuple[FaultEvent, ...]:
        """The faults that were put into effect, as `EchoService.history`."""
        return self.service.history

    def set_faults(self, *faults: Fault, running: bool = False) -> None:
        """Let these go wrong in place of what did, as `EchoService.set_faults`.

        Raises:
            ValueError: one is no fault, or cannot happen in memory.
        """
        self.service.set_faults(*faults, running=running)

    def statistics(self) -> Statistics:
        """Return a snapshot of the counters."""
        return self.service.statistics()

    async def drain(self) -> None:
        """Stop accepting and drain, as `EchoService.drain` does."""
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

    Yields a `MemoryServer`, whose `connect` returns client streams with `buffer_size` bytes of
    room in each direction. Nothing waits for a kernel, so all times can be those of an
    autojump clock. Leaving the block drains it; leaving it by an exception or by cancellation
    closes everything at once, and the exception comes out as it was raised.

    Raises:
        ValueError: `buffer_size` is less than 1, or a fault cannot happen in memory.
    """
    limits = limits or Limits()
    listener = MemoryListener(limits.backlog or BACKLOG, buffer_size=buffer_size)
    async with open_server(
        listener, reply=reply, limits=limits, faults=faults, seed=seed
    ) as service:
        yield MemoryServer(service, listener)
