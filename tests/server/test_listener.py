"""Listeners: those of ours that keep messages apart, and open ones of any kind."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, ended, open_descriptors, until_ended
from techo._server.sockets import PacketListener
from techo._transport.connect import connect
from techo.testing import MemoryListener


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


async def test_a_listener_that_does_tls_has_its_own_certificate(
    server_tls: ssl.SSLContext,
) -> None:
    """A fault that would show another one is refused, because it could not happen."""
    (below,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listeners = [trio.SSLListener(each, server_tls) for each in (below, MemoryListener())]
    for listener in listeners:
        with pytest.raises(ValueError, match=r"ExpiredCertificate.* its TLS is not ours"):
            async with techo.open_server(listener, faults=[techo.testing.ExpiredCertificate()]):
                raise AssertionError("it can't be listening")


@pytest.mark.parametrize(("others", "tls"), [([8009], None), ([], "no context")])
async def test_an_open_listener_is_closed_if_an_argument_is_wrong(
    others: list[Any], tls: Any
) -> None:
    """That may be another place, or a value for the service."""
    before = await open_descriptors()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with pytest.raises(ValueError, match="is not an"):
        async with techo.open_server(listener, *others, tls=tls):
            raise AssertionError("it can't be listening")
    assert await open_descriptors() == before


async def test_tls_over_any_listener_is_served(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """A Unix socket is reported as what it is, and has the faults of TLS."""
    memory, path = MemoryListener(), f"{tmp_path}/s"
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        await sock.bind(path)
        sock.listen()
        listeners = [
            trio.SSLListener(each, server_tls) for each in (trio.SocketListener(sock), memory)
        ]
        async with techo.open_server(
            *listeners, reply=techo.raw, faults=[techo.testing.NoCloseNotify()]
        ) as server:
            assert [str(each) for each in server.endpoints] == [f"unix:{path}"]
            for below in (await trio.open_unix_socket(path), await memory.connect()):
                stream = trio.SSLStream(below, client_tls, server_hostname="localhost")
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                await trio.aclose_forcefully(stream)
            assert ended(await until_ended(server, 2)) == {"reset": 2}
