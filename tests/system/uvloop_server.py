"""An echo server on uvloop's Protocol: it prints its port, and at its end what it counted."""

from __future__ import annotations

import asyncio
import signal
from typing import cast

import uvloop

counts = {"connections": 0, "bytes": 0}


class Echo(asyncio.Protocol):
    """One connection."""

    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        self.transport = cast(
            "asyncio.WriteTransport", transport
        )  # uvloop's own is no subclass
        counts["connections"] += 1

    def data_received(self, data: bytes) -> None:
        """Count and echo what has come."""
        counts["bytes"] += len(data)
        self.transport.write(data)


async def main() -> None:
    """Serve until SIGTERM."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    print(counts["connections"], counts["bytes"])


if __name__ == "__main__":
    uvloop.run(main())
