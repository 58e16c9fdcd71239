"""Solution 2: one task sends while another one reads, so that neither keeps the other."""

from __future__ import annotations

import trio


async def round_trip(client: trio.SocketStream, data: bytes) -> bytes:
    """Send `data` to an echo server; return what comes back, which is as long."""
    reply = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, data)
        while len(reply) < len(data) and (chunk := await client.receive_some()):
            reply += chunk
    return bytes(reply)
