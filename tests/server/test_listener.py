"""Accepting connections that keep messages apart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from helpers import PATIENCE
from techo._server.sockets import PacketListener
from techo._transport.connect import connect


async def test_a_listener_accepts_until_it_is_closed(tmp_path: Path) -> None:
    """A task that waits for a connection then gets an error."""
    listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    await listening.bind(str(tmp_path / "s"))
    listening.listen(1)
    listener = PacketListener(listening)
    with trio.fail_after(PATIENCE):
        client = (await connect(f"unixpacket:{tmp_path}/s")).transport
        server = await listener.accept()
        await client.send(b"hello")
        assert await server.receive() == b"hello"
        await client.aclose()
        await server.aclose()

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
