"""Recipes for balancers: real HAProxy and nginx run them before two real techo."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import attrs
import pytest
import trio

import techo
from documents import recipe
from helpers import (
    PATIENCE,
    Process,
    free_port,
    needs,
    running,
    send_to_end,
    serving,
    until,
    until_answering,
    wait_until,
)

HOSTS = ("127.0.0.2", "127.0.0.3")

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{}}
include {folder}/recipe;
"""
"""What includes the recipe, as nginx.conf would."""


@attrs.frozen
class Place:
    """Two techo and the balancer before them, as a recipe says."""

    balancer: str
    front: str
    servers: list[Process]
    log: Path
    """What the balancer logs."""


def adapted(name: str, front: str) -> str:
    """Return a recipe whose three machines are this one."""
    back, metrics = free_port(), free_port()
    places = {
        "192.0.2.10": "127.0.0.1",
        "192.0.2.1:8009": f"{HOSTS[0]}:{back}",
        "192.0.2.2:8009": f"{HOSTS[1]}:{back}",
        "'*:8009'": f"tcp://*:{back}",
        # A test may take longer.
        "--lame-duck 10s": f"--lame-duck {PATIENCE}s",
    }
    if name == "haproxy.cfg":
        ports = {"*:9100": f"*:{metrics}", "port 9100": f"port {metrics}"}
        places |= {"bind :8009": f"bind {front}", **ports}
    else:
        places |= {"listen 8009": f"listen {front}"}
    return recipe(name, places)


@pytest.fixture(params=["haproxy.cfg", "nginx-stream.conf"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Run a recipe: the command line in it for each of two hosts, and the balancer."""
    front = f"127.0.0.1:{free_port()}"
    text = adapted(request.param, front)
    file, main, log = (tmp_path / name for name in ("recipe", "main", "log"))
    file.write_text(text)
    main.write_text(NGINX.format(folder=tmp_path))
    balancer = request.param.partition(".")[0].partition("-")[0]
    words = {"haproxy": f"-db -f {file}", "nginx": f"-c {main} -e stderr"}
    (line,) = re.findall(r"^# techo (.*)$", text, re.MULTILINE)
    with ExitStack() as stack:
        command = [needs(balancer), *words[balancer].split()]
        servers = [
            stack.enter_context(
                serving(*shlex.split(line.replace("*:", f"{host}:")), "--reply", "raw")
            )
            for host in HOSTS
        ]
        errors = stack.enter_context(log.open("wb"))
        stack.enter_context(running(command, errors))
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
