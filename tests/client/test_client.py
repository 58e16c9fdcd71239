"""The client: round trips in step, errors bare, nothing left open."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

import techo
from helpers import open_descriptors, reset, until_ended

ANY = "tcp://127.0.0.1:0"
Script = Callable[[trio.abc.Stream], Awaitable[None]]


async def trip_against(script: Script, data: bytes = b"hello") -> techo.RoundTrip:
    """Make one round trip with a server that follows a script."""
    ours, theirs = trio.testing.memory_stream_pair()
    client = techo.EchoClient(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, theirs)
        trip = await client.round_trip(data)
    return trip


async def trip_catching(script: Script) -> techo.EchoError:
    """Return what a failing round trip raises, after which the client is closed."""
    ours, theirs = trio.testing.memory_stream_pair()
    client = techo.EchoClient(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, theirs)
        with pytest.raises(techo.EchoError) as caught:
            await client.round_trip(b"hello")
        with pytest.raises(trio.ClosedResourceError):
            await client.round_trip(b"hello")
    return caught.value


async def test_a_round_trip_gives_reply_stamps_and_seconds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Time is the run's clock, from sending to the last byte."""

    async def slow(stream: trio.abc.Stream) -> None:
        assert await stream.receive_some() == b"hello"
        await trio.sleep(2)
        await stream.send_all(b"[Sun Nov 22 12:00:00 2026] hel")
        await trio.sleep(1)
        await stream.send_all(b"lo")

    assert await trip_against(slow) == techo.RoundTrip(
        b"[Sun Nov 22 12:00:00 2026] hello", 3.0, ("Sun Nov 22 12:00:00 2026",)
    )


async def test_a_wrong_byte_is_a_bare_mismatch_and_the_end_of_the_client() -> None:
    """The client is out of step then, so it has closed itself."""

    async def wrong(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"hallo")

    error = await trip_catching(wrong)
    assert isinstance(error, techo.EchoMismatch)
    assert (error.offset, error.expected, error.received) == (1, b"ello", b"allo")


async def test_an_early_end_is_a_bare_short_reply() -> None:
    """The error has how much came back, of how much."""

    async def short(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"he")
        await stream.aclose()

    error = await trip_catching(short)
    assert isinstance(error, techo.ShortReply)
    assert (error.received, error.expected) == (2, 5)


async def test_a_server_that_closes_without_reading_is_told_by_what_came_back() -> None:
    """Sending fails too then, and the receiving side reports it."""

    async def gone(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    ours, theirs = trio.testing.lockstep_stream_pair()
    await gone(theirs)
    with pytest.raises(techo.ShortReply, match="after 0 of 5"):
        await techo.EchoClient(ours).round_trip(b"hello")


async def test_a_reset_is_trios_error() -> None:
    """Network failures are not dressed up."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]

    async def break_it() -> None:
        stream = await listener.accept()
        await stream.receive_some()
        reset(stream)

    async with (
        listener,
        techo.open_client(f"127.0.0.1:{port}") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(break_it)
        with pytest.raises(trio.BrokenResourceError):
            await client.round_trip(b"hello")


async def test_nothing_makes_a_round_trip_of_nothing() -> None:
    """No bytes are owed, so none are waited for."""
    async with (
        techo.open_server(ANY) as server,
        techo.open_client(server.endpoints[0]) as client,
    ):
        trip = await client.round_trip(b"")
        assert (trip.reply, trip.stamps) == (b"", ())
        assert (await client.round_trip(b"still in step")).reply.endswith(b"still in step")


@pytest.mark.parametrize("reply", [techo.raw, techo.stamped])
async def test_64_mib_over_one_connection_do_not_deadlock(reply: techo.Reply) -> None:
    """Both directions move at once, and every byte and stamp is found."""
    data = os.urandom(2**20) * 64
    async with (
        techo.open_server(ANY, reply=reply) as server,
        techo.open_client(server.endpoints[0]) as client,
    ):
        with trio.fail_after(60):
            trip = await client.round_trip(data)
        stamps = server.statistics().chunks if reply is techo.stamped else 0
        assert len(trip.stamps) == stamps
        assert len(trip.reply) == len(data) + 27 * stamps


async def test_cancelled_in_mid_trip_it_closes_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Otherwise the next trip would get the late reply."""
    ours, theirs = trio.testing.memory_stream_pair()
    client = techo.EchoClient(ours)
    with trio.move_on_after(1) as scope:
        await client.round_trip(b"hello")
    assert scope.cancelled_caught
    with pytest.raises(trio.ClosedResourceError):
        await client.round_trip(b"hello")
    with pytest.raises(trio.BrokenResourceError):
        await theirs.send_all(b"hello")


async def test_two_tasks_on_one_client_are_told_so(nursery: trio.Nursery) -> None:
    """The second gets an error, and the first is not disturbed."""
    ours, theirs = trio.testing.memory_stream_pair()
    client = techo.EchoClient(ours)
    trips: list[techo.RoundTrip] = []

    async def first() -> None:
        trips.append(await client.round_trip(b"first"))

    async with trio.open_nursery() as inner:
        inner.start_soon(first)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await client.round_trip(b"second")
        await theirs.send_all(b"first")
    assert trips[0].reply == b"first"


async def test_what_is_not_bytes_is_a_type_error_and_no_harm() -> None:
    """The client goes on as if nothing had been asked."""
    async with (
        techo.open_server(ANY) as server,
        techo.open_client(server.endpoints[0]) as client,
    ):
        for wrong in ("hello", 5):
            with pytest.raises(TypeError):
                await client.round_trip(wrong)  # type: ignore[arg-type]  # on purpose
        assert len((await client.round_trip(b"hello")).stamps) == 1
    with pytest.raises(trio.ClosedResourceError):
        await client.round_trip(b"")


async def test_open_client_closes_what_it_opened() -> None:
    """It does so at the end of the block, however that ends."""
    async with techo.open_server(ANY) as server:
        before = await open_descriptors()

        async def use_it() -> None:
            async with techo.open_client(str(server.endpoints[0])) as client:
                await client.round_trip(b"x")
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await use_it()
        await until_ended(server, 1)
        assert await open_descriptors() == before


@pytest.mark.parametrize("endpoint", ["*:8009", "127.0.0.1:0"])
async def test_an_endpoint_for_servers_only_is_refused(endpoint: str) -> None:
    """A client can't connect to every interface, nor to any free port."""
    with pytest.raises(ValueError, match="name host and port"):
        async with techo.open_client(endpoint):
            raise AssertionError("it can't be connected")


async def test_nobody_listening_is_an_os_error() -> None:
    """It has the words of trio's own."""
    async with techo.open_server(ANY) as server:
        endpoint = server.endpoints[0]
    with pytest.raises(OSError, match="all attempts to connect"):
        async with techo.open_client(endpoint):
            raise AssertionError("it can't be connected")
