"""The server over TLS, whatever pieces records arrive in: alike by the pump and without it."""

from __future__ import annotations

import functools
import logging
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import attrs
import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE, connect, ended, reset, until, until_ended
from techo._tls.records import TlsRecords

pytestmark = pytest.mark.usefixtures("conversation")

ANY = "tls://127.0.0.1:0"
ROOM = 2**16


@attrs.define
class Client:
    """A client that decides which bytes leave together."""

    stream: trio.SocketStream
    records: TlsRecords

    async def shake_hands(self, *, bytewise: bool = False, after: bytes = b"") -> None:
        """Do it, with `after` in the last of what is sent for it."""
        with trio.fail_after(PATIENCE):
            while not self.records.shake_hands():
                await self._send(self.records.take(), bytewise=bytewise)
                await self._feed()
            self.records.encrypt(after)
            await self._send(self.records.take(), bytewise=bytewise)

    async def _feed(self) -> None:
        if chunk := await self.stream.receive_some():
            self.records.feed(chunk)
        else:
            self.records.feed_end()

    async def _send(self, data: bytes, *, bytewise: bool) -> None:
        size = 1 if bytewise else max(1, len(data))
        for start in range(0, len(data), size):
            await self.stream.send_all(data[start : start + size])

    def record(self, data: bytes) -> bytes:
        """Return the records of `data`, which are not sent."""
        self.records.encrypt(data)
        return self.records.take()

    async def send(self, data: bytes) -> None:
        """Send `data`, each 16 KiB as a record."""
        await self.stream.send_all(self.record(data))

    async def receive(self, size: int) -> bytes:
        """Receive so many bytes, or what there is before close_notify."""
        found, room = b"", memoryview(bytearray(ROOM))
        with trio.fail_after(PATIENCE):
            while True:
                while count := self.records.decrypt(room):
                    found += room[:count]
                if self.records.error is not None:
                    raise self.records.error
                if len(found) >= size or self.records.peer_ended:
                    return found
                await self._feed()

    async def close_notify(self) -> None:
        """Send it."""
        self.records.end()
        await self.stream.send_all(self.records.take())


class Dial(Protocol):
    """Connects to a server over TLS."""

    async def __call__(self, service: techo.EchoService, *, early: bool = False) -> Client:
        """Do it, and the handshake unless it is `early`."""


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
def version(request: pytest.FixtureRequest) -> str:
    """Return the only version that the client speaks."""
    return str(request.param)


@pytest.fixture
def dial(version: str, client_tls: ssl.SSLContext) -> Dial:
    """Return what connects and shakes hands; `early` leaves that to the test."""
    only = ssl.TLSVersion.TLSv1_2 if version == "TLSv1.2" else ssl.TLSVersion.TLSv1_3
    client_tls.minimum_version = client_tls.maximum_version = only

    async def connect_to(service: techo.EchoService, *, early: bool = False) -> Client:
        records = TlsRecords.of(client_tls, server_side=False, server_hostname="localhost")
        client = Client(await connect(service), records)
        if not early:
            await client.shake_hands()
        return client

    return connect_to


@pytest.fixture
def opened(server_tls: ssl.SSLContext) -> Callable[..., Any]:
    """Return what opens a server that returns every byte, or replies otherwise."""
    return functools.partial(techo.open_server, ANY, reply=techo.raw, tls=server_tls)


async def test_what_comes_with_the_end_of_the_handshake_is_answered(
    dial: Dial, opened: Callable[..., Any], version: str
) -> None:
    """No event of the socket tells of it any more."""
    async with opened() as service:
        client = await dial(service, early=True)
        if version == "TLSv1.2":  # the server has the last word
            await client.shake_hands()
            await client.send(b"first")
        else:
            await client.shake_hands(after=b"first")
        assert await client.receive(5) == b"first"
        await client.close_notify()
        assert await client.receive(1) == b""
        assert ended(await until_ended(service, 1)) == {"eof": 1}
        await client.stream.aclose()


async def test_a_hello_of_single_bytes_is_a_handshake(
    dial: Dial, opened: Callable[..., Any]
) -> None:
    """So is all that follows it, and the first message too."""
    async with opened() as service:
        client = await dial(service, early=True)
        client.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await client.shake_hands(bytewise=True)
        for byte in client.record(b"message"):
            await client.stream.send_all(bytes([byte]))
        assert await client.receive(7) == b"message"
        await client.stream.aclose()


async def test_session_tickets_come_with_the_first_reply(
    dial: Dial, opened: Callable[..., Any]
) -> None:
    """The client can resume its session from then on."""
    async with opened() as service:
        client = await dial(service)
        await client.send(b"x")
        assert await client.receive(1) == b"x"
        session = client.records.tls.session
        assert session is not None
        assert session.has_ticket
        await client.stream.aclose()


async def test_all_whole_records_are_one_chunk_and_a_part_waits(
    dial: Dial, opened: Callable[..., Any]
) -> None:
    """Three and a half are answered as three, and the rest when it has come."""
    chunks: list[bytes] = []

    def note(chunk: bytes) -> bytes:
        chunks.append(chunk)
        return chunk

    async with opened(reply=note) as service:
        client = await dial(service)
        whole = b"".join(map(client.record, (b"one ", b"two ", b"three ")))
        last = client.record(b"four")
        await client.stream.send_all(whole + last[:20])
        assert await client.receive(14) == b"one two three "
        await client.stream.send_all(last[20:])
        assert await client.receive(4) == b"four"
        assert chunks == [b"one two three ", b"four"]
        await client.stream.aclose()
        statistics = await until_ended(service, 1)
        assert (statistics.chunks, statistics.bytes_in, statistics.bytes_out) == (2, 18, 18)


@pytest.mark.parametrize("receive_size", [1, 100, 2**14, 2**16])
async def test_records_of_every_size_return_whole(
    dial: Dial, opened: Callable[..., Any], receive_size: int
) -> None:
    """A byte, 16 KiB, and what is longer than a chunk may be."""
    limits = techo.Limits(receive_size=receive_size)
    async with opened(limits=limits) as service:
        client = await dial(service)
        largest = min(2**14, 200 * receive_size)  # a byte at a time takes its time
        sizes = (1, 2, largest, 1, largest - 1, 3 * largest)
        for size in sizes:
            data = os.urandom(size)
            await client.send(data)
            assert await client.receive(size) == data
        await client.close_notify()
        assert await client.receive(1) == b""
        statistics = await until_ended(service, 1)
        assert ended(statistics) == {"eof": 1}
        assert statistics.bytes_in == statistics.bytes_out == sum(sizes)
        await client.stream.aclose()


async def test_a_megabyte_at_once_returns_to_who_reads_late(
    dial: Dial, opened: Callable[..., Any]
) -> None:
    """Its records wait where they are while the socket takes no more."""
    data = os.urandom(2**20)
    async with opened() as service:
        client = await dial(service)
        for _ in range(4):  # of which the kernel holds some
            async with trio.open_nursery() as both:
                both.start_soon(client.send, data)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert await client.receive(len(data)) == data
        await client.stream.aclose()
        statistics = await until_ended(service, 1)
        assert statistics.bytes_in == statistics.bytes_out == 4 * len(data)


async def test_close_notify_in_mid_message_ends_it_after_all_replies(
    dial: Dial, opened: Callable[..., Any]
) -> None:
    """What came before it is answered, and the server's own close_notify follows."""
    async with opened() as service:
        client = await dial(service)
        begun = client.record(b"half a mess")
        client.records.end()
        await client.stream.send_all(begun + client.records.take())
        assert await client.receive(100) == b"half a mess"
        assert client.records.peer_ended
        assert await client.stream.receive_some() == b""
        assert ended(await until_ended(service, 1)) == {"eof": 1}
        await client.stream.aclose()


async def test_an_end_without_close_notify_is_a_reset(
    dial: Dial, opened: Callable[..., Any]
) -> None:
    """It may have come too early (RFC 8446, 6.1)."""
    async with opened() as service:
        client = await dial(service)
        await client.send(b"x")
        assert await client.receive(1) == b"x"
        await client.stream.send_eof()
        assert ended(await until_ended(service, 1)) == {"reset": 1}
        await client.stream.aclose()


async def test_a_reset_is_a_reset(dial: Dial, opened: Callable[..., Any]) -> None:
    """In the middle of a record as anywhere."""
    async with opened() as service:
        client = await dial(service)
        await client.stream.send_all(client.record(b"message")[:9])
        reset(client.stream)
        assert ended(await until_ended(service, 1)) == {"reset": 1}


async def test_a_record_that_was_changed_is_answered_by_an_alert(
    dial: Dial, opened: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """After that nothing can be sent, so what came just before it is not answered either."""
    caplog.set_level(logging.INFO)
    async with opened() as service:
        client = await dial(service)
        good, bad = client.record(b"good"), bytearray(client.record(b"evil"))
        bad[-1] ^= 1
        await client.stream.send_all(good + bad)
        with pytest.raises(trio.BrokenResourceError, match=r"(?i)bad.record.mac"):
            await client.receive(1)
        statistics = await until_ended(service, 1)
        assert ended(statistics) == {"reset": 1}
        assert (statistics.bytes_in, statistics.bytes_out) == (4, 0)
        await client.stream.aclose()
    assert "bad record mac" in caplog.text.lower()


async def test_a_peer_that_never_reads_is_stalled(
    dial: Dial, opened: Callable[..., Any], patient_clock: trio.testing.MockClock
) -> None:
    """It is, after the idle timeout, and no more is counted than has left."""
    limits = techo.Limits(idle_timeout=30)
    async with opened(limits=limits) as service:
        client = await dial(service)
        data = os.urandom(2**24)
        with pytest.raises(trio.BrokenResourceError):
            await client.send(data)
        statistics = await until_ended(service, 1)
        assert ended(statistics) == {"stalled": 1}
        assert statistics.bytes_out < statistics.bytes_in < len(data)
        await client.stream.aclose()


async def test_a_drain_lets_a_reply_in_mid_record_leave_whole(
    dial: Dial, opened: Callable[..., Any], patient_clock: trio.testing.MockClock
) -> None:
    """Then it sends close_notify."""
    data = os.urandom(2**22)
    async with opened() as service, trio.open_nursery() as nursery:
        client = await dial(service)
        nursery.start_soon(client.send, data)
        await until(lambda: any(each.send_pending for each in service._service.registry))
        nursery.start_soon(service.drain)
        await trio.testing.wait_all_tasks_blocked()
        assert await client.receive(len(data)) == data
        assert await client.receive(1) == b""
        await client.stream.aclose()
    assert ended(service.statistics()) == {"drained": 1}


async def test_a_drain_ends_a_quiet_conversation_with_close_notify(
    dial: Dial, opened: Callable[..., Any], patient_clock: trio.testing.MockClock
) -> None:
    """Its peer can tell that nothing is missing."""
    async with opened() as service, trio.open_nursery() as nursery:
        client = await dial(service)
        await client.send(b"x")
        assert await client.receive(1) == b"x"
        await trio.sleep(10)
        nursery.start_soon(service.drain)
        assert await client.receive(1) == b""
        assert client.records.peer_ended
        assert await client.stream.receive_some() == b""
        await client.stream.aclose()
    assert ended(service.statistics()) == {"drained": 1}


async def test_a_reply_function_that_raises_costs_its_own_connection(
    dial: Dial, opened: Callable[..., Any], version: str
) -> None:
    """Also where the message came with the handshake."""

    def fail(chunk: bytes) -> bytes:
        raise ValueError(chunk)

    async with opened(reply=fail) as service:
        for early in (False, version == "TLSv1.3"):
            client = await dial(service, early=True)
            await client.shake_hands(after=b"x" if early else b"")
            if not early:
                await client.send(b"x")
            with pytest.raises(trio.BrokenResourceError):
                await client.receive(1)
            await client.stream.aclose()
        assert ended(await until_ended(service, 2)) == {"crashed": 2}


async def test_the_oldest_handshake_makes_room(
    dial: Dial, opened: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused, where there are more than there may be, and the others go on."""
    caplog.set_level(logging.WARNING)
    async with opened(limits=techo.Limits(max_handshakes=2)) as service:
        clients = []
        for number in range(1, 4):
            clients.append(await dial(service, early=True))
            await until(lambda: service.statistics().accepted == number)  # noqa: B023  -- called at once
        assert ended(await until_ended(service, 1)) == {"refused": 1}
        assert await clients[0].stream.receive_some() == b""
        for client in clients[1:]:
            await client.shake_hands()
            await client.send(b"x")
            assert await client.receive(1) == b"x"
        clients.append(await dial(service))  # those that are done do not count any more
        for client in clients:
            await client.stream.aclose()
    assert "max-handshakes 2 reached" in caplog.text
