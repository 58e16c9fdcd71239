"""Recipes for balancers: real HAProxy and nginx run them before two real techo."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import attrs
import pytest
import trio

import techo
from balancers import adapted, balancing, options_of_servers
from helpers import (
    PATIENCE,
    Process,
    free_port,
    send_to_end,
    serving,
    until,
    until_answering,
    wait_until,
)


@attrs.frozen
class Place:
    """Two techo and the balancer before them, as a recipe says."""

    balancer: str
    front: str
    servers: list[Process]
    log: Path
    """What the balancer logs."""


@pytest.fixture(params=["haproxy.cfg", "nginx-stream.conf"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Run a recipe: the command line in it for each of two hosts, and the balancer."""
    front = f"127.0.0.1:{free_port()}"
    text = adapted(request.param, front)
    balancer = request.param.partition(".")[0].partition("-")[0]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serving(*options)) for options in options_of_servers(text)
        ]
        log = stack.enter_context(balancing(balancer, text, tmp_path))
        yield Place(balancer, front, servers, log)


async def test_each_server_learns_whom_it_serves(place: Place) -> None:
    """Clients are shared out, and their own addresses are in the servers' logs."""
    await until_answering(place.front)
    async with AsyncExitStack() as stack:
        options = techo.SocketOptions("127.0.0.7")
        for _ in range(4):  # one of them is enough for each, but the one above may not be over
            client = techo.open_client(place.front, options=options)
            trip = await (await stack.enter_async_context(client)).round_trip(b"hello")
            assert trip.reply == b"hello"
    for server in place.servers:
        assert " 127.0.0.7:" in server.read_log()


async def test_a_client_gets_all_after_its_end_of_file(place: Place) -> None:
    """The balancer passes on a half-close, and then what still comes back."""
    await until_answering(place.front)
    host, _, port = place.front.partition(":")
    data = bytes(1_000_000)
    with trio.fail_after(PATIENCE):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            assert await send_to_end(stream, data) == data


async def test_a_server_that_stops_loses_nothing(place: Place) -> None:
    """Every trip comes back while one server leaves, and after it is gone."""
    await until_answering(place.front)
    leaving = place.servers[0]
    leaving.popen.send_signal(signal.SIGTERM)
    if place.balancer == "haproxy":
        await until(lambda: "echo/one is DOWN" in place.log.read_text())
        assert "did not match content 'HTTP/1.1 200'" in place.log.read_text()
    await connect_often(place.front, "127.0.0.8")
    if place.balancer == "haproxy":
        assert " 127.0.0.8:" not in leaving.read_log()
    leaving.popen.send_signal(signal.SIGTERM)  # a second one does not wait
    wait_until(lambda: leaving.popen.poll() is not None, "it ends")
    await connect_often(place.front, "127.0.0.9")
    assert "echo/two is DOWN" not in place.log.read_text()


async def connect_often(endpoint: str, source: str) -> None:
    """Make ten trips over a connection each."""
    for _ in range(10):
        options = techo.SocketOptions(source)
        async with techo.open_client(endpoint, options=options) as client:
            assert (await client.round_trip(b"hello")).reply == b"hello"
