"""Servers to measure that run on asyncio or uvloop: `with_asyncio.py NAME` prints its port.

Both set TCP_NODELAY themselves. None of these has timeouts, limits or counters.
"""

from __future__ import annotations

import asyncio
import importlib
import mmap
import sys
from collections.abc import Callable
from typing import Final, cast

BACKLOG: Final = 65535
"""As many as the kernel allows."""

BUFFER: Final = 2**18
"""Bytes that BufferedProtocol receives at once: as much as Protocol does on uvloop."""


class Bounce(asyncio.Protocol):
    """The leanest there is: receiving is writing, without a line of Python in between."""

    __slots__ = ("data_received",)

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.data_received = transport.write  # type: ignore[method-assign]  # nothing between


class Greet(asyncio.Protocol):
    """Hands each connection over to `Bounce`, once it has a transport."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        writing = cast("asyncio.WriteTransport", transport)
        writing.set_protocol(Bounce(writing))


class Buffered(asyncio.BufferedProtocol):
    """Receives into a buffer of its own; what is written must be copied out of it."""

    __slots__ = ("buffer", "view", "write")

    def __init__(self) -> None:
        self.buffer = mmap.mmap(-1, BUFFER)  # whole pages, as ours: see Pump.buffers
        self.view = memoryview(self.buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self.write = cast("asyncio.WriteTransport", transport).write

    def get_buffer(self, sizehint: int) -> mmap.mmap:  # noqa: ARG002  -- asyncio's signature
        """See asyncio."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio."""
        self.write(bytes(self.view[:nbytes]))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo as asyncio's tutorial does."""
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve_streams() -> None:
    """Serve with a coroutine for each connection."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=BACKLOG)
    await announce_and_serve(server)


async def serve_protocol(protocol: Callable[[], asyncio.BaseProtocol]) -> None:
    """Serve with callbacks."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=BACKLOG)
    await announce_and_serve(server)


async def announce_and_serve(server: asyncio.Server) -> None:
    """Tell who started this where it listens; serve until killed."""
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    loop_name, _, style = sys.argv[1].partition("-")
    runner = importlib.import_module(loop_name)
    protocol = Buffered if style == "buffered" else Greet
    runner.run(serve_streams() if style == "streams" else serve_protocol(protocol))
