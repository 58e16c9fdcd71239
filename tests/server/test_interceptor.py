"""The interceptor: a service lets something else be done, and knows nothing of what it is."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import NoReturn

import attrs
import pytest
import trio

import techo
from helpers import ended, receive_until_end
from techo._kernel.datagram_sockets import DatagramSocket, Sender
from techo._memory.listener import MemoryListener
from techo._server.connection import Connection, Outcome
from techo._server.datagrams import DropReason
from techo._server.interceptor import InterceptedError, Interception
from techo._server.service import Service
from techo._transport.connect import connect
from techo._transport.transport import Transport


@attrs.define
class Contrary:
    """Says no to every second connection, and sends no datagram that does."""

    asked: int = 0

    def check(self, transport: str, place: object, *, secure: bool) -> None:
        """Refuse Unix paths."""
        assert not secure
        if transport.startswith("unix"):
            raise ValueError(f"not on {place}")

    def next(self) -> Interception | None:
        """Return what says no, every second time."""
        self.asked += 1
        return None if self.asked % 2 else No()

    async def serve_datagrams(
        self, place: DatagramSocket, serve: Callable[[DatagramSocket], Awaitable[NoReturn]]
    ) -> NoReturn:
        """Send everything but no."""

        def send(data: memoryview | bytes, peer: Sender) -> int:
            if data == b"no":
                raise InterceptedError
            return place.send(data, peer)

        await serve(attrs.evolve(place, send=send))
        raise AssertionError("it ended without having been cancelled")


class No:
    """Says no and ends."""

    def context(self, tls: ssl.SSLContext) -> ssl.SSLContext:
        """Return the same."""
        return tls

    async def begin(self, transport: Transport, connection: Connection) -> Outcome | None:
        """Let the conversation begin."""
        del transport, connection
        await trio.lowlevel.checkpoint()
        return None

    async def converse(
        self,
        transport: Transport,
        reply: techo.Reply,
        connection: Connection,
        receive_size: int,
    ) -> Outcome:
        """Say so."""
        del connection, receive_size
        await transport.send(reply(b"no"))
        return Outcome.FAULTED


def make_service() -> Service:
    """Return a service that is intercepted."""
    return Service(techo.raw, techo.Limits(), None, None, None, Contrary())


async def test_a_connection_is_served_as_the_interceptor_wants(nursery: trio.Nursery) -> None:
    """The first is served plainly, the second by the interceptor."""
    service, listener = make_service(), MemoryListener()
    await nursery.start(service.serve, listener)
    replies = []
    for _ in range(2):
        async with await listener.connect() as stream:
            await stream.send_all(b"hello")
            await stream.send_eof()
            replies.append(await receive_until_end(stream))
    await service.drain()
    assert replies == [b"hello", b"no"]
    assert ended(service.statistics()) == {"eof": 1, "faulted": 1}


async def test_a_reply_to_a_datagram_may_be_kept_back(nursery: trio.Nursery) -> None:
    """It is counted as what a fault has dropped, and the next is answered."""
    service = make_service()
    (endpoint,) = await nursery.start(service.serve, "udp://127.0.0.1:0")
    async with (await connect(endpoint)).transport as ours:
        await ours.send(b"no")
        await ours.send(b"yes")
        assert await ours.receive() == b"yes"
    statistics = service.statistics().datagrams
    assert (statistics.echoed, statistics.dropped[DropReason.FAULT]) == (1, 1)
    await service.drain()


async def test_a_place_to_listen_may_be_refused(nursery: trio.Nursery) -> None:
    """What the interceptor refuses leaves `serve` before anything is bound there."""
    service = make_service()
    with pytest.raises(ValueError, match="not on unix:none/s"):
        await nursery.start(service.serve, "unix:none/s")
