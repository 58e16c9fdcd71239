"""Memory streams and listeners: what trio asks of streams, and what sockets would do."""

from __future__ import annotations

import errno
import functools
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

import techo
from helpers import ended, receive_until_end
from techo.testing import MemoryListener, MemoryServer, MemoryStream, open_memory_server

Attempt = Callable[[MemoryStream], Awaitable[object]]

send: Attempt = functools.partial(MemoryStream.send_all, data=b"x")
receive: Attempt = MemoryStream.receive_some
say_eof: Attempt = MemoryStream.send_eof
wait_for_room: Attempt = MemoryStream.wait_send_all_might_not_block


async def make() -> tuple[MemoryStream, MemoryStream]:
    """Return both ends of a connection."""
    await trio.lowlevel.checkpoint()
    return MemoryStream.pair()


async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
    """Return a connection with no room to send in either direction."""
    ours, theirs = MemoryStream.pair(buffer_size=10)
    await ours.send_all(bytes(10))
    await theirs.send_all(bytes(10))
    return ours, theirs


async def test_memory_streams_are_what_trio_asks_of_streams() -> None:
    """Trio's own conformance checks pass, those for clogged streams included."""
    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_sending_waits_for_the_reader(autojump_clock: trio.testing.MockClock) -> None:
    """No more is taken than the buffer holds, until some of it is read."""
    ours, theirs = MemoryStream.pair(buffer_size=4)
    with trio.move_on_after(60) as scope:
        await ours.send_all(b"123456")
    assert scope.cancelled_caught
    assert [await theirs.receive_some(), trio.current_time()] == [b"1234", 60]
    await ours.send_all(b"78")
    await ours.aclose()
    assert await receive_until_end(theirs) == b"78"


async def test_whatever_has_bytes_can_be_sent() -> None:
    """A view of wider items can be sent, too: bytes are counted, not items."""
    ours, theirs = MemoryStream.pair(buffer_size=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, memoryview(b"abcdefgh").cast("I"))
        assert [await theirs.receive_some() for _ in range(3)] == [b"abc", b"def", b"gh"]


@pytest.mark.parametrize("attempt", [send, receive, say_eof, wait_for_room])
async def test_after_a_reset_the_peers_every_attempt_fails(attempt: Attempt) -> None:
    """All that the peer tries fails, each time; for this end the stream is closed."""
    ours, theirs = MemoryStream.pair()
    await ours.send_all(b"lost")
    ours.reset()
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await attempt(theirs)
        with pytest.raises(trio.ClosedResourceError):
            await attempt(ours)


@pytest.mark.parametrize("attempt", [send, receive, wait_for_room])
async def test_a_reset_ends_what_the_peer_waits_for(attempt: Attempt) -> None:
    """A pending call raises at once."""
    theirs, ours = await make_clogged()
    await theirs.receive_some()
    async with trio.open_nursery() as nursery:

        async def attempted() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await attempt(theirs)

        nursery.start_soon(attempted)
        await trio.testing.wait_all_tasks_blocked()
        ours.reset()


async def test_resetting_what_is_closed_does_nothing() -> None:
    """What was sent before the end still arrives, as over a socket."""
    ours, theirs = MemoryStream.pair()
    await ours.send_all(b"last words")
    ours.close()
    ours.reset()
    assert await receive_until_end(theirs) == b"last words"


async def test_closing_with_unread_input_is_a_reset() -> None:
    """The peer learns that its bytes were not read (RFC 1122, 4.2.2.13)."""
    ours, theirs = MemoryStream.pair()
    await theirs.send_all(b"unheard")
    await ours.send_all(b"lost")
    await ours.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await theirs.receive_some()


async def test_a_listener_accepts_in_order() -> None:
    """A connection is there before anybody accepts it."""
    listener = MemoryListener()
    for word in (b"first", b"second"):
        await (await listener.connect()).send_all(word)
    assert await (await listener.accept()).receive_some() == b"first"
    assert await (await listener.accept()).receive_some() == b"second"


async def test_a_listener_serves_with_trio() -> None:
    """`trio.serve_listeners` takes it, and accepting may begin before anybody connects."""
    listener = MemoryListener()
    async with trio.open_nursery() as nursery:
        service = techo.EchoService(techo.raw)
        await nursery.start(trio.serve_listeners, service.handle, [listener])
        await trio.testing.wait_all_tasks_blocked()
        async with await listener.connect() as stream:
            await stream.send_all(b"hello")
            await stream.send_eof()
            assert await receive_until_end(stream) == b"hello"
        nursery.cancel_scope.cancel()


async def test_a_full_backlog_makes_connecting_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Connecting waits until one of those that wait is accepted."""
    listener = MemoryListener(backlog=2)
    await listener.connect()
    await listener.connect()
    with trio.move_on_after(60) as scope:
        await listener.connect()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.connect)
        await trio.testing.wait_all_tasks_blocked()
        await listener.accept()
    await listener.accept()
    await listener.accept()


async def test_a_closed_listener_refuses() -> None:
    """Waiting and later attempts to connect are refused; those not accepted are reset."""
    listener = MemoryListener(backlog=1)
    early = await listener.connect()
    refused = functools.partial(pytest.raises, ConnectionRefusedError)

    async def come() -> None:
        with refused() as caught:
            await listener.connect()
        assert caught.value.errno == errno.ECONNREFUSED

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come)
        await trio.testing.wait_all_tasks_blocked()
        await listener.aclose()
    await come()
    with pytest.raises(trio.BrokenResourceError):
        await early.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    await listener.aclose()


async def test_closing_a_listener_ends_an_accept() -> None:
    """A pending `accept` raises."""
    listener = MemoryListener()

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        await trio.testing.wait_all_tasks_blocked()
        await listener.aclose()


@pytest.mark.parametrize("wrong", [{"backlog": 0}, {"buffer_size": 0}])
def test_nonsense_is_refused(wrong: dict[str, int]) -> None:
    """The text names what is wrong and the value."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} .* got 0"):
        MemoryListener(**wrong)


async def test_everything_that_may_wait_is_a_checkpoint() -> None:
    """Connecting and accepting are checkpoints even when they need not wait."""
    listener = MemoryListener()
    with trio.testing.assert_checkpoints():
        await listener.connect()
    with trio.testing.assert_checkpoints():
        await listener.accept()
    with trio.testing.assert_checkpoints():
        await listener.aclose()


async def test_leaving_the_block_drains(autojump_clock: trio.testing.MockClock) -> None:
    """The peer sees an end, and later attempts to connect are refused."""
    async with open_memory_server() as server:
        stream = await server.connect()
        await stream.send_all(b"hello")
        assert (await stream.receive_some()).endswith(b"] hello")
    assert await stream.receive_some() == b""
    with pytest.raises(ConnectionRefusedError):
        await server.connect()
    assert ended(server.statistics()) == {"drained": 1}


async def test_an_exception_closes_everything_and_comes_out_bare() -> None:
    """The memory server ends as `open_server` does."""
    found: list[MemoryServer] = []

    async def fail_while_connected(found: list[MemoryServer]) -> None:
        async with open_memory_server() as server:
            found.append(server)
            stream = await server.connect()
            await stream.send_all(b"hello")
            assert await stream.receive_some()
            raise KeyError

    with pytest.raises(KeyError):
        await fail_while_connected(found)
    (server,) = found
    assert ended(server.statistics()) == {"aborted": 1}


async def test_a_memory_server_has_the_backlog_and_the_buffers_one_asks_for() -> None:
    """The backlog is a limit, as over sockets; the buffers are those of each direction."""
    limits = techo.Limits(backlog=7)
    async with open_memory_server(limits=limits, buffer_size=5, reply=techo.raw) as server:
        assert server.listener._backlog == 7
        stream = await server.connect()
        await stream.send_all(b"1234567")
        await trio.testing.wait_all_tasks_blocked()
        assert [await stream.receive_some() for _ in range(2)] == [b"12345", b"67"]
        await stream.aclose()
