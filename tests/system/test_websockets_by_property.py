"""websockets on trio against whatever the network does: what it promises, and what was found.

The chapter `test` speaks of what is found here, in the version that the group `system` names.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any
from unittest import mock

import hypothesis
import pytest
import trio
from hypothesis import given
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.trio.client import connect

from plans import (
    FINDING,
    LIES,
    NAME,
    THOROUGH,
    End,
    connect_to,
    end_of,
    open_by,
    secured,
    timed,
    trusting,
)
from techo.testing import FaultPlan, Proxy, Refuse, Reset, Stall, Truncate, fault_plans


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
    websocket = connect(f"ws://{NAME}/", stream=stream, proxy=None)
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
        fault_plans("memory", Reset),
        lambda plan: isinstance(
            end_of(plan, serve_websocket, call_websockets).error, ConnectionClosed
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Reset()])


async def call_over_tls(proxy: Proxy) -> End:
    """Have a message echoed over TLS; errors that connect does not name are returned, too."""
    websocket = connect(f"wss://{NAME}/", ssl=CONTEXT, proxy=None)
    with open_by(proxy):
        return await timed(trip(websocket), Exception)


CONTEXT = trusting()


def test_websockets_let_an_error_of_trio_out() -> None:
    """A connection that ends in the TLS handshake raises what connect does not name either."""
    serve = secured(serve_websocket)
    plan = hypothesis.find(
        fault_plans("memory", Truncate, max_bytes=3000),
        lambda plan: isinstance(
            end_of(plan, serve, call_over_tls).error, trio.BrokenResourceError
        ),
        settings=FINDING,
    )
    assert plan == FaultPlan([Truncate(0)])


async def call_until_connected(proxy: Proxy, uri: str) -> End:
    """Have a message echoed, connecting again as websockets does by itself."""
    tls: dict[str, Any] = {"ssl": CONTEXT} if uri.startswith("wss:") else {}

    async def try_again() -> bytes:
        websockets: Any = aiter(connect(uri, proxy=None, **tls))
        async with contextlib.aclosing(websockets):
            websocket = await anext(websockets)
            await websocket.send(b"hello")
            reply: bytes = await websocket.recv(decode=False)
            return reply

    with open_by(proxy):
        return await timed(try_again(), Exception)


@pytest.mark.parametrize(
    ("scheme", "error"), [("ws", ConnectionClosed), ("wss", trio.BrokenResourceError)]
)
def test_therefore_websockets_do_not_connect_again(scheme: str, error: type[Exception]) -> None:
    """An end after the request is tried again; one before it is final."""
    serve = secured(serve_websocket) if scheme == "wss" else serve_websocket

    def end_with(plan: FaultPlan) -> End:
        uri = f"{scheme}://{NAME}/"
        return end_of(plan, serve, lambda proxy: call_until_connected(proxy, uri))

    handshake = 1500 if scheme == "wss" else 0
    assert end_with(FaultPlan([Truncate(handshake, first=1)])).result == b"hello"
    assert isinstance(end_with(FaultPlan([Refuse(first=1)])).error, error)


def test_websockets_log_a_failure_that_they_have_dealt_with() -> None:
    """A peer that is silent for too long is an error that is raised, and one that is logged."""

    def is_logged(plan: FaultPlan) -> bool:
        with errors_logged() as errors:
            end = end_of(plan, serve_websocket, call_websockets)
        return isinstance(end.error, ConnectionClosed) and errors == ["keepalive ping failed"]

    plan = hypothesis.find(
        fault_plans("memory", Stall, max_faults=1, max_bytes=400), is_logged, settings=FINDING
    )
    assert len(plan.faults) == 1
    assert plan.faults[0].given["after"] > 100  # the handshake is over
