"""Clients of others against whatever the network does: what they promise, and what was found.

The chapter `test` speaks of what is found here, in the versions that the group `system` names.
"""

from __future__ import annotations

import contextlib
import gzip
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from unittest import mock

import attrs
import h11
import httpx
import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import Phase, given, settings
from trio.testing import MockClock
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.trio.client import connect

from techo.testing import (
    Corrupt,
    Fault,
    FaultPlan,
    Lengthen,
    MemoryStream,
    Proxy,
    Refuse,
    Stall,
    Throttle,
    Truncate,
    fault_plans,
    open_proxy,
)

LIES: list[type[Fault]] = [Corrupt, Lengthen]
"""What no network does and no checksum of these protocols would notice."""

THOROUGH = settings(
    max_examples=200,
    deadline=None,  # virtual time makes one in real time meaningless
    database=None,
    derandomize=True,
    phases=[Phase.generate, Phase.shrink],  # explaining takes a hundred runs more
)
FINDING = settings(THOROUGH, max_examples=2000)

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


@attrs.frozen
class End:
    """How a call of a client has ended."""

    result: bytes | None
    """What it has returned; None if it failed with an error that it promises."""
    seconds: float
    """How long it took, in virtual time."""
    error: Exception | None = None


def end_of(plan: FaultPlan, serve: Serve, call: Callable[[Proxy], Awaitable[End]]) -> End:
    """Return how a call ends on virtual time, through a proxy with the faults of a plan."""

    async def main() -> End:
        async with behind(plan, serve) as proxy:
            return await call(proxy)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@contextlib.asynccontextmanager
async def behind(plan: FaultPlan, serve: Serve) -> AsyncIterator[Proxy]:
    """Return a proxy in memory to what serves; at the end all is closed at once."""
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def connect_in_memory() -> MemoryStream:
                ours, theirs = MemoryStream.pair()
                nursery.start_soon(serve, theirs)
                await trio.lowlevel.checkpoint()
                return ours

            async with open_proxy(
                connect_in_memory,
                faults=plan.faults,
                upstream_faults=plan.upstream_faults,
                seed=plan.seed,
            ) as proxy:
                yield proxy
                scope.cancel()


async def connect_to(proxy: Proxy) -> MemoryStream:
    """Connect, and let all happen that happens before the client does something itself."""
    stream = await proxy.connect()
    await trio.testing.wait_all_tasks_blocked()
    return stream


def open_by(proxy: Proxy) -> contextlib.AbstractContextManager[object]:
    """Have all connections that are opened by their addresses opened to the proxy."""

    async def open_tcp_stream(*_places: object, **_options: object) -> MemoryStream:
        return await connect_to(proxy)

    return mock.patch.object(trio, "open_tcp_stream", open_tcp_stream)


async def timed(call: Awaitable[bytes], *promised: type[Exception]) -> End:
    """Return how a call ends; what it does not promise to raise comes out."""
    begin = trio.current_time()
    try:
        result = await call
    except promised as error:
        return End(None, trio.current_time() - begin, error)
    return End(result, trio.current_time() - begin)


BODY = b"0123456789" * 5
HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
ZIPPED = gzip.compress(BODY, mtime=0)
UNTIL_THE_END = HEAD + b"\r\n"
ZIPPED_UNTIL_THE_END = HEAD + b"content-encoding: gzip\r\n\r\n"
ANSWERS = {
    "length": HEAD + b"content-length: 50\r\n\r\n" + BODY,
    "chunks": HEAD + b"transfer-encoding: chunked\r\n\r\n32\r\n" + BODY + b"\r\n0\r\n\r\n",
    "gzip": HEAD
    + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(ZIPPED)
    + ZIPPED,
}
"""Answers that say where they end."""


def answering(answer: bytes) -> Serve:
    """Return a server of HTTP that has only one answer."""

    async def serve(stream: trio.abc.Stream) -> None:
        request = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                async for data in stream:
                    request += data
                    if b"\r\n\r\n" in request:
                        await stream.send_all(answer)
                        return

    return serve


CONTEXT = ssl.create_default_context()
"""Made once, because each client makes its own otherwise, and takes its time."""


async def call_httpx(proxy: Proxy) -> End:
    """Get a page by httpx, with five seconds of patience."""
    async with httpx.AsyncClient(
        timeout=5, trust_env=False, verify=CONTEXT, headers={"connection": "close"}
    ) as client:

        async def get() -> bytes:
            content: bytes = (await client.get("http://server.example/")).content
            return content

        with open_by(proxy):
            return await timed(get(), httpx.HTTPError)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_httpx_returns_the_page_or_raises_in_time(answer: bytes) -> None:
    """An answer that says where it ends is returned whole, or an HTTPError is raised."""

    @THOROUGH
    @given(
        plan=fault_plans(
            "memory", without=[*LIES, Throttle], max_upstream_faults=1, max_bytes=200
        )
    )
    def check(plan: FaultPlan) -> None:
        end = end_of(plan, answering(answer), call_httpx)
        assert end.result in {BODY, None}
        assert end.seconds <= 10

    check()


def test_the_timeout_of_httpx_is_for_each_part() -> None:
    """An answer that comes byte by byte may take any time, as its documentation says."""
    serve = answering(ANSWERS["length"])
    plan = hypothesis.find(
        fault_plans("memory", Throttle),
        lambda plan: end_of(plan, serve, call_httpx).seconds > 60,
        settings=FINDING,
    )
    assert plan == FaultPlan([Throttle(1)])
    assert end_of(plan, serve, call_httpx).result == BODY


def test_httpx_takes_half_of_a_compressed_page_for_the_whole() -> None:
    """That gzip has an end of its own is not used where nothing else says where it ends."""
    plan = hypothesis.find(
        fault_plans("memory", without=LIES, max_bytes=200),
        lambda plan: (
            end_of(plan, answering(ZIPPED_UNTIL_THE_END + ZIPPED), call_httpx).result
            not in {BODY, None}
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Truncate(len(ZIPPED_UNTIL_THE_END))])


async def call_h11(proxy: Proxy) -> End:
    """Get a page by h11, with thirty seconds for all of it."""

    async def get() -> bytes:
        with trio.fail_after(30):
            return await get_by_h11(await connect_to(proxy))

    promised = (h11.RemoteProtocolError, trio.BrokenResourceError, trio.TooSlowError)
    return await timed(get(), *promised)


async def get_by_h11(stream: trio.abc.Stream) -> bytes:
    """Get a page in the way that the documentation of h11 shows."""
    connection = h11.Connection(h11.CLIENT)
    headers = [("host", "server.example"), ("connection", "close")]
    request = connection.send(h11.Request(method="GET", target="/", headers=headers))
    assert request is not None
    connection.send(h11.EndOfMessage())
    await stream.send_all(request)
    body = b""
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some()))
        elif isinstance(event, h11.Data):
            body += event.data
    return body


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_h11_returns_the_page_or_a_protocol_error(answer: bytes) -> None:
    """An answer that says where it ends is returned whole; a lie may remain unseen."""

    @THOROUGH
    @given(plan=fault_plans("memory", max_upstream_faults=1, max_bytes=200))
    def check(plan: FaultPlan) -> None:
        end = end_of(plan, answering(answer), call_h11)
        lies = {type(fault) for fault in (*plan.faults, *plan.upstream_faults)} & {*LIES}
        assert lies or end.result in {answer.partition(b"\r\n\r\n")[2], BODY, None}
        assert end.seconds <= 30

    check()


def test_http_itself_cannot_tell_where_an_answer_without_length_ends() -> None:
    """What ends with the connection is taken for whole, as RFC 9112 has it (6.3)."""
    plan = hypothesis.find(
        fault_plans("memory", without=LIES, max_bytes=200),
        lambda plan: (
            end_of(plan, answering(UNTIL_THE_END + BODY), call_h11).result not in {BODY, None}
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Truncate(len(UNTIL_THE_END))])


async def serve_websocket(stream: trio.abc.Stream) -> None:
    """Echo the messages of a websocket."""
    protocol = ServerProtocol()
    with contextlib.suppress(trio.BrokenResourceError):
        async with stream:
            async for data in stream:
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        protocol.send_response(protocol.accept(event))
                    elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                        protocol.send_binary(event.data)
                if b"" in (replies := protocol.data_to_send()):
                    await stream.send_all(b"".join(replies))
                    return  # the closing handshake is over, and the server is to close first
                await stream.send_all(b"".join(replies))


async def trip(websocket: connect) -> bytes:
    """Send a message by a websocket, and return the one that comes back."""
    async with websocket as connection:
        await connection.send(b"hello")
        reply: bytes = await connection.recv(decode=False)
        return reply


PROMISED_BY_CONNECT = (OSError, InvalidHandshake, TimeoutError)
"""As the documentation of websockets.trio.client.connect has it."""


async def call_websockets(proxy: Proxy) -> End:
    """Have a message echoed by websockets, with the timeouts that it has by itself."""
    stream = await connect_to(proxy)
    websocket = connect("ws://server.example/", stream=stream, proxy=None)
    return await timed(trip(websocket), *PROMISED_BY_CONNECT, ConnectionClosed)


@contextlib.contextmanager
def errors_logged() -> Iterator[list[str]]:
    """Return what websockets logs as an error, instead of having it written."""
    messages: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]  # shorter than a class
    logger = logging.getLogger("websockets")
    with mock.patch.multiple(logger, handlers=[handler], propagate=False):
        yield messages


def test_websockets_return_the_message_or_raise_in_time() -> None:
    """Whatever happens, there is the right message or an error of websockets.

    That is after 10 s at most for opening, 20 s and 20 s for a ping, and 10 s for closing.
    """

    @THOROUGH
    @given(plan=fault_plans("memory", without=LIES, max_upstream_faults=1, max_bytes=400))
    def check(plan: FaultPlan) -> None:
        with errors_logged() as errors:
            end = end_of(plan, serve_websocket, call_websockets)
        assert end.result in {b"hello", None}
        assert end.seconds <= 10 + 20 + 20 + 10
        assert {*errors} <= {"keepalive ping failed"}

    check()


def test_websockets_say_closed_where_they_promise_no_such_error() -> None:
    """A connection that ends before the request has left raises what connect does not name."""
    plan = hypothesis.find(
        fault_plans("memory", without=LIES),
        lambda plan: isinstance(
            end_of(plan, serve_websocket, call_websockets).error, ConnectionClosed
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Refuse()])


async def call_websockets_until_connected(proxy: Proxy) -> End:
    """Have a message echoed, connecting again as websockets do by themselves."""

    async def try_again() -> bytes:
        websockets: Any = aiter(connect("ws://server.example/", proxy=None))
        async with contextlib.aclosing(websockets):
            websocket = await anext(websockets)
            await websocket.send(b"hello")
            reply: bytes = await websocket.recv(decode=False)
            return reply

    with open_by(proxy):
        return await timed(try_again(), ConnectionClosed)


def test_therefore_websockets_do_not_connect_again() -> None:
    """An end that comes a moment later is tried again; this one is final."""
    later = FaultPlan([Truncate(0, first=1)])
    assert end_of(later, serve_websocket, call_websockets_until_connected).result == b"hello"
    at_once = FaultPlan([Refuse(first=1)])
    end = end_of(at_once, serve_websocket, call_websockets_until_connected)
    assert isinstance(end.error, ConnectionClosed)


def test_websockets_log_a_failure_that_they_have_dealt_with() -> None:
    """A peer that is silent for too long is an error that is raised, and one that is logged."""

    def is_logged(plan: FaultPlan) -> bool:
        with errors_logged() as errors:
            end = end_of(plan, serve_websocket, call_websockets)
        return isinstance(end.error, ConnectionClosed) and errors == ["keepalive ping failed"]

    plan = hypothesis.find(
        fault_plans("memory", Stall, max_bytes=400), is_logged, settings=FINDING
    )
    assert len(plan.faults) == 1
    assert plan.faults[0].given["after"] > 100  # the handshake is over
