"""The same script, in memory and over sockets: the same bytes, the same outcomes."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import attrs
import pytest
import trio
import trio.testing

import helpers
import techo
from helpers import PATIENCE, ended, receive_until_end, until
from techo.testing import MemoryServer, MemoryStream, open_memory_server

MESSAGES: Final = tuple(bytes([number]) * 3 ** (number % 10) for number in range(50))
LARGE: Final = bytes(range(256)) * 4000


def fail(_: bytes) -> bytes:
    """A reply function with a fault."""
    raise RuntimeError("no")


@attrs.frozen
class Place:
    """A server somewhere, as a script sees it."""

    server: MemoryServer | techo.EchoService
    endpoint: techo.Endpoint | None
    """Where it listens; None in memory."""

    async def connect(self) -> trio.abc.HalfCloseableStream:
        """Connect to it."""
        if isinstance(self.server, MemoryServer):
            return await self.server.connect()
        assert self.endpoint is not None
        sock = trio.socket.socket()
        try:
            await sock.connect((self.endpoint.host, self.endpoint.port))
        except OSError:
            sock.close()
            raise
        return trio.SocketStream(sock)

    async def until_ended(self, count: int) -> None:
        """Wait until it has noticed that `count` connections are over."""
        await until(lambda: sum(self.server.statistics().outcomes.values()) >= count)


def reset(stream: trio.abc.Stream) -> None:
    """Reset the connection."""
    if isinstance(stream, MemoryStream):
        stream.reset()
    else:
        assert isinstance(stream, trio.SocketStream)
        helpers.reset(stream)


async def exactly(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    """Receive so many bytes, or fewer if the end comes first."""
    data = b""
    while len(data) < size and (chunk := await stream.receive_some(size - len(data))):
        data += chunk
    return data


async def end_of(stream: trio.abc.ReceiveStream) -> bytes | str:
    """Return what comes until the end, or that it is a reset."""
    try:
        return await receive_until_end(stream)
    except trio.BrokenResourceError:
        return "broken"


async def hello(place: Place) -> object:
    """Send one message, and close after its reply."""
    async with await place.connect() as stream:
        await stream.send_all(b"hello")
        answer = await exactly(stream, 5)
        await stream.send_eof()
        return answer, await end_of(stream)


async def many_messages(place: Place) -> object:
    """Send one message after the other, each answered before the next."""
    async with await place.connect() as stream:
        answers = []
        for message in MESSAGES:
            await stream.send_all(message)
            answers.append(await exactly(stream, len(message)))
        await stream.send_eof()
        return tuple(answers) == MESSAGES, await end_of(stream)


async def half_close_with_everything_owed(place: Place) -> object:
    """Send all and half-close before anything is read."""
    async with await place.connect() as stream:

        async def send() -> None:
            await stream.send_all(LARGE)
            await stream.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            back = await end_of(stream)
    return back == LARGE


async def silence(place: Place) -> object:
    """Send one message, and then nothing."""
    async with await place.connect() as stream:
        await stream.send_all(b"hello")
        return await end_of(stream)


async def one_too_many(place: Place) -> object:
    """Make two connections where one is allowed."""
    async with await place.connect() as first:
        await first.send_all(b"first")
        before = await exactly(first, 5)
        async with await place.connect() as second:
            refused = await end_of(second)
        await first.send_eof()
        return before, refused, await end_of(first)


async def a_message(place: Place) -> object:
    """Send one message, and receive until the end."""
    async with await place.connect() as stream:
        await stream.send_all(b"x")
        return await end_of(stream)


async def reset_by_the_client(place: Place) -> object:
    """Reset in the middle of a message."""
    stream = await place.connect()
    await stream.send_all(b"hello")
    answer = await exactly(stream, 5)
    reset(stream)
    return answer


async def flood(place: Place) -> object:
    """Send for ever without reading, and return how it ends."""
    stream = await place.connect()
    try:
        while True:
            await stream.send_all(LARGE)
    except trio.BrokenResourceError:
        sent = "broken"
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await trio.aclose_forcefully(stream)
    return sent


async def drain_while_quiet(place: Place) -> object:
    """The drained client sees an end-of-file."""
    async with trio.open_nursery() as nursery, await place.connect() as stream:
        await stream.send_all(b"hello")
        answer = await exactly(stream, 5)
        nursery.start_soon(place.server.drain)
        end = await end_of(stream)
    return answer, end


async def come_after_a_drain(place: Place) -> object:
    """An attempt to connect after the drain is refused."""
    await place.server.drain()
    with pytest.raises(ConnectionRefusedError) as caught:
        await place.connect()
    return caught.value.errno


async def close_unread(place: Place) -> object:
    """Close with unread replies, which is a reset."""
    stream = await place.connect()
    await stream.send_all(b"one")
    await until(lambda: place.server.statistics().bytes_out >= 3)
    await trio.sleep(0.1)  # until it has arrived: an unread stream says nothing of that
    await stream.aclose()
    await place.until_ended(1)
    return None


Script = Callable[[Place], Awaitable[object]]
SHORT: Final = 5
"""Seconds, virtual ones, and fewer than `PATIENCE`."""

ROWS: Final[list[tuple[Script, dict[str, Any], object, dict[str, int]]]] = [
    (hello, {}, (b"hello", b""), {"eof": 1}),
    (many_messages, {}, (True, b""), {"eof": 1}),
    (half_close_with_everything_owed, {}, True, {"eof": 1}),
    (silence, {"limits": techo.Limits(idle_timeout=SHORT)}, b"hello", {"idle": 1}),
    (silence, {"limits": techo.Limits(lifetime=SHORT)}, b"hello", {"expired": 1}),
    (
        one_too_many,
        {"limits": techo.Limits(max_connections=1)},
        (b"first", b"", b""),
        {"eof": 1, "refused": 1},
    ),
    (a_message, {"reply": fail}, b"", {"crashed": 1}),
    (reset_by_the_client, {}, b"hello", {"reset": 1}),
    (close_unread, {}, None, {"reset": 1}),
    (flood, {"limits": techo.Limits(idle_timeout=SHORT)}, "broken", {"stalled": 1}),
    (drain_while_quiet, {}, (b"hello", b""), {"drained": 1}),
    (come_after_a_drain, {}, errno.ECONNREFUSED, {}),
]
"""For each script: how the server is set up, what the client sees, how connections ended."""

Open = Callable[..., AbstractAsyncContextManager[MemoryServer | techo.EchoService]]


@asynccontextmanager
async def open_socket_server(**options: Any) -> AsyncIterator[techo.EchoService]:
    """Serve on a free port, with the parameters of the memory server."""
    async with techo.open_server("tcp://127.0.0.1:0", **options) as server:
        yield server


async def play(open_server: Open, script: Script, options: dict[str, Any]) -> object:
    """Play a script; return what the client saw, and what the server counted."""
    async with open_server(**{"reply": techo.raw, **options}) as server:
        endpoint = None if isinstance(server, MemoryServer) else server.endpoints[0]
        place = Place(server, endpoint)
        with trio.fail_after(PATIENCE):
            seen = await script(place)
            statistics = server.statistics()
            await place.until_ended(statistics.accepted)
    statistics = server.statistics()
    return seen, ended(statistics), statistics.accepted, statistics.active


@pytest.mark.parametrize(
    ("script", "options", "seen", "outcomes"),
    ROWS,
    ids=[f"{row[0].__name__}-{'-'.join(row[3])}" for row in ROWS],
)
def test_memory_and_sockets_behave_the_same(
    script: Script, options: dict[str, Any], seen: object, outcomes: dict[str, int]
) -> None:
    """Client and counts agree over both; in memory no time is spent waiting."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    in_memory = trio.run(play, open_memory_server, script, options, clock=clock)
    clock = trio.testing.MockClock(autojump_threshold=0.1)  # like the fixture patient_clock
    over_sockets = trio.run(play, open_socket_server, script, options, clock=clock)
    assert in_memory == over_sockets == (seen, outcomes, sum(outcomes.values()), 0)
