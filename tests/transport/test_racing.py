"""Datagrams to a name with several addresses: the one that answers first is kept."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from helpers import open_descriptors
from techo._transport.connect import connect
from techo._transport.racing import RacingTransport
from techo._transport.transport import Transport
from techo.testing import check_echo_service

NAME = "udp://several.example"


@attrs.define
class Names(trio.abc.HostnameResolver):
    """A resolver for which every name has these addresses."""

    addresses: tuple[str, ...]

    async def getaddrinfo(  # type: ignore[override]  # of all its forms, the one that is used
        self, _host: str, port: int, _family: int, kind: int, *_: int
    ) -> list[Any]:
        """Look it up."""
        await trio.lowlevel.checkpoint()
        return [(socket.AF_INET, kind, 0, "", (each, port)) for each in self.addresses]

    async def getnameinfo(self, *_: Any) -> tuple[str, str]:
        """Nobody asks."""
        raise NotImplementedError


@attrs.define(eq=False)
class Peer:
    """A socket for datagrams, and what has come to it."""

    sock: trio.socket.SocketType
    answers: bool
    came: list[bytes] = attrs.field(factory=list)

    async def serve(self) -> None:
        """Receive, and answer if that is its way, until the socket is closed."""
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                data, sender = await self.sock.recvfrom(2**16)
                self.came.append(data)
                if self.answers:
                    await self.sock.sendto(data, sender)


@contextlib.asynccontextmanager
async def peers(*names: str) -> AsyncIterator[tuple[int, list[Peer]]]:
    """Let a name have an address for each, on the same port: echo, silent or refusing."""
    with contextlib.ExitStack() as stack, free_port() as port:
        there: list[Peer] = []
        async with trio.open_nursery() as nursery:
            for number, name in enumerate(names, 1):
                if name != "refusing":
                    sock = stack.enter_context(trio.socket.socket(type=socket.SOCK_DGRAM))
                    await sock.bind((f"127.0.0.{number}", port))
                    there.append(Peer(sock, answers=name == "echo"))
                    nursery.start_soon(there[-1].serve)  # noqa: ASYNC113  -- it may wait
            addresses = tuple(f"127.0.0.{number}" for number in range(1, len(names) + 1))
            trio.socket.set_custom_hostname_resolver(Names(addresses))
            yield port, there
            nursery.cancel_scope.cancel()


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Hold a port that nobody else gets, on an address that the tests do not use."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.1.1.1", 0))
        yield sock.getsockname()[1]


@contextlib.asynccontextmanager
async def opened(port: int) -> AsyncIterator[tuple[Transport, techo.EchoClient]]:
    """Connect to the name for the length of a block."""
    async with (await connect(f"{NAME}:{port}")).transport as transport:
        yield transport, techo.EchoClient(transport)


@pytest.mark.parametrize(
    ("names", "seconds", "number"),
    [
        (("echo", "echo"), 0, 1),
        (("silent", "echo", "echo"), 0.25, 2),
        (("silent", "silent", "echo"), 0.5, 3),
        (("refusing", "echo"), 0, 2),
        (("refusing", "silent", "refusing", "echo"), 0.25, 4),
    ],
)
async def test_the_first_that_answers_is_kept(
    names: tuple[str, ...], seconds: float, number: int, autojump_clock: trio.testing.MockClock
) -> None:
    """The next is tried after 250 ms of silence, or at once after a refusal (RFC 8305)."""
    async with peers(*names) as (port, there):
        before = await open_descriptors()
        async with opened(port) as (transport, client):
            assert not transport.pumpable
            assert transport.address == ""
            assert transport.largest == 65_507
            trip = await client.round_trip(b"first")
            assert trip.seconds == seconds
            assert transport.address == f"127.0.0.{number}:{port}"
            assert await open_descriptors() == before + 1
            assert (await client.round_trip(b"second")).seconds == 0
            assert [each.came for each in there if not each.answers] == [
                [b"first"]
            ] * names.count("silent")
            await transport.aclose()
            assert await open_descriptors() == before


@pytest.mark.parametrize("names", [("refusing", "refusing"), ("refusing",) * 3])
async def test_if_all_refuse_it_is_a_refusal(
    names: tuple[str, ...], autojump_clock: trio.testing.MockClock
) -> None:
    """It is raised once for each datagram, and a server that comes later is found."""
    async with peers(*names) as (port, _), opened(port) as (_, client):
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await client.round_trip(b"anybody?")
        async with techo.open_server(f"udp://127.0.0.2:{port}", reply=techo.raw):
            assert (await client.round_trip(b"anybody?")).reply == b"anybody?"


async def test_who_has_refused_is_asked_again_while_nobody_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The other one may be silent for ever."""
    async with peers("refusing", "silent") as (port, _), opened(port) as (_, client):
        with trio.move_on_after(5) as scope:
            await client.round_trip(b"anybody?")
        assert scope.cancelled_caught
        async with techo.open_server(f"udp://127.0.0.1:{port}", reply=techo.raw):
            assert (await client.round_trip(b"anybody?")).seconds == 0


async def test_the_one_that_is_kept_is_kept_until_it_fails(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its refusal is an error, and the next datagram begins again with the first address."""
    async with (
        peers("silent", "echo") as (port, (silent, echo)),
        opened(port) as (transport, client),
    ):
        await client.round_trip(b"first")
        echo.sock.close()
        silent.answers = True
        with pytest.raises(ConnectionRefusedError):
            await client.round_trip(b"second")
        trip = await client.round_trip(b"third")
        assert (trip.reply, trip.seconds) == (b"third", 0)
        assert transport.address == f"127.0.0.1:{port}"
        assert silent.came == [b"first", b"third"]


async def test_a_datagram_that_is_too_large_does_not_end_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """That is the datagram's fault, and no failure of the address."""
    async with peers("echo", "echo") as (port, there), opened(port) as (transport, client):
        await client.round_trip(b"first")
        with pytest.raises(OSError, match=r".") as error:
            await transport.send(bytes(65_508))
        assert error.value.errno == errno.EMSGSIZE
        await client.round_trip(b"second")
        assert [each.came for each in there] == [[b"first", b"second"], []]


async def test_what_was_not_answered_goes_to_the_next_and_no_more_than_is_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """All that was sent meanwhile comes in its order, up to 64 datagrams."""
    async with (
        peers("silent", "echo") as (port, (silent, echo)),
        opened(port) as (transport, _),
    ):
        sent = [b"%d" % number for number in range(100)]
        for data in sent:
            await transport.send(data)
        assert [await transport.receive() for _ in range(64)] == sent[-64:]
        assert silent.came == sent
        assert echo.came == sent[-64:]


async def test_cancellation_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """A datagram that has come meanwhile is the next that is received."""
    async with peers("silent", "echo") as (port, _), opened(port) as (transport, _):
        for _ in range(2):
            with trio.move_on_after(0.2):
                await transport.receive()  # there is nothing to wait for yet
        await transport.send(b"one")
        assert isinstance(transport, RacingTransport)
        with trio.CancelScope() as scope:
            keep = transport._keep

            def keep_and_cancel(kept: Any) -> None:
                keep(kept)
                scope.cancel()

            transport._keep = keep_and_cancel  # type: ignore[method-assign]  # to act in mid-call
            await transport.receive()
        assert scope.cancelled_caught
        with trio.testing.assert_checkpoints():
            assert await transport.receive() == b"one"


async def test_an_answer_may_come_while_a_datagram_is_being_sent(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The socket that has answered is kept, and no other address is tried."""
    async with (
        peers("silent", "echo") as (port, (first, other)),
        opened(port) as (transport, _),
    ):
        await transport.send(b"one")
        first.answers = True
        assert isinstance(transport, RacingTransport)
        send = transport.one.send

        async def send_and_wait(data: bytes | bytearray | memoryview) -> None:
            await send(data)
            await trio.testing.wait_all_tasks_blocked()  # so that the answer is received first

        transport.one.send = send_and_wait  # type: ignore[method-assign]  # to act in mid-call
        nursery.start_soon(transport.receive)
        await trio.testing.wait_all_tasks_blocked()
        await transport.send(b"two")
        assert transport.address == f"127.0.0.1:{port}"
        assert (first.came, other.came) == ([b"one", b"two"], [])


async def test_a_send_that_fails_does_not_end_the_receiving(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """What is sent next may be answered, by any address."""
    async with (
        peers("silent", "echo") as (port, (silent, _)),
        opened(port) as (transport, client),
    ):
        await client.round_trip(b"first")
        assert isinstance(transport, RacingTransport)

        async def refuse(data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"as planned: {data!r}")

        transport.one.send = refuse  # type: ignore[method-assign]  # to act in mid-call
        answers: list[bytes] = []

        async def receive() -> None:
            answers.append(await transport.receive())

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ConnectionRefusedError):
            await transport.send(b"second")
        silent.answers = True
        await transport.send(b"third")
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [b"third"]


async def test_closing_ends_every_wait(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing is left of the sockets, and nothing can be done any more."""
    async with peers("silent", "silent") as (port, _):
        before = await open_descriptors()
        for sends in range(2):
            transport = (await connect(f"{NAME}:{port}")).transport

            async def wait(transport: Transport = transport) -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await transport.receive()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                for _ in range(sends):
                    await transport.send(b"x")
                await trio.sleep(1)
                await transport.send_eof()
                await transport.aclose()
            for using in (transport.send(b"x"), transport.receive()):
                with pytest.raises(trio.ClosedResourceError):
                    await using
            await transport.aclose()
            assert await open_descriptors() == before


async def test_one_address_that_there_is_a_way_to_is_no_race() -> None:
    """Its socket is used at once, by the pump where there is one."""
    trio.socket.set_custom_hostname_resolver(Names(("255.255.255.255", "127.0.0.1")))
    transport = (await connect(f"{NAME}:9")).transport
    assert transport.pumpable
    assert transport.address == "127.0.0.1:9"
    await transport.aclose()
    trio.socket.set_custom_hostname_resolver(Names(("127.0.0.1", "127.0.0.1")))
    transport = (await connect(f"{NAME}:9")).transport
    assert transport.pumpable
    await transport.aclose()


@pytest.mark.parametrize("first", ["silent", "refusing"])
async def test_everybody_connects_so(
    first: str, autojump_clock: trio.testing.MockClock
) -> None:
    """The client, ping, load and check find the second address, and say which it was."""
    async with peers(first, "echo") as (port, _):
        address = f"127.0.0.2:{port}"
        async with techo.open_client(f"{NAME}:{port}") as client:
            assert (await client.round_trip(b"hello")).reply == b"hello"
        async with techo.ping(f"{NAME}:{port}", count=3) as ping:
            results = [result async for result in ping]
        wait = 0.25 if first == "silent" else 0
        assert [each.seconds for each in results if isinstance(each, techo.PingReply)] == [
            wait,
            0,
            0,
        ]
        assert ping.statistics().address == address
        assert ping.statistics().to_json()["address"] == address
        report = await techo.load(f"{NAME}:{port}", connections=2, trips=20)
        assert (report.received, report.failed, report.address) == (20, 0, address)
        assert (await check_echo_service(f"{NAME}:{port}", connections=3)).passed
