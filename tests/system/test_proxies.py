"""Interop: real HAProxy and nginx before our server, and our client before them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio

import techo
from helpers import free_port, needs, running, until, until_answering, wait_until

HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {defaults}
frontend in
    bind {front} {bind}
    default_backend out
backend out
    server techo {back} {server}
"""

NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{}}
stream {{
    server {{
        listen {front} {bind};
        proxy_pass {back};
        {server}
    }}
}}
"""


@attrs.frozen
class Proxy:
    """A program and how it is started, with what makes its configuration."""

    program: str
    command: tuple[str, ...]
    config: str

    def start(self, folder: Path, **values: str) -> list[str]:
        """Return the command for a configuration."""
        path = folder / self.program
        path.write_text(self.config.format(folder=folder, **values))
        return [needs(self.program), *(part.format(path=path) for part in self.command)]


PROXIES = {
    "haproxy": Proxy("haproxy", ("-db", "-f", "{path}"), HAPROXY),
    "nginx": Proxy("nginx", ("-c", "{path}", "-e", "stderr"), NGINX),
}

Log = Callable[[], list[dict[str, object]]]


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[tuple[str, Log]]:
    """Run a server of ours behind a proxy: its address, and what it has logged."""
    log, out = tmp_path / "log", tmp_path / "out"
    words = "-v --reply raw --log-format json --proxy-from 127.0.0.1 tcp://127.0.0.1:0"
    command = [sys.executable, "-m", "techo", *words.split()]
    with log.open("wb") as errors, out.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=errors)
        try:
            wait_until(lambda: out.read_text().endswith("\n"), "it listens")
            port = out.read_text().rpartition(":")[2].strip()

            def lines() -> list[dict[str, object]]:
                return [json.loads(line) for line in log.read_text().splitlines()]

            yield f"127.0.0.1:{port}", lines
        finally:
            server.terminate()
            server.wait()


CASES = [
    ("haproxy", "", "send-proxy"),
    ("haproxy", "", "send-proxy-v2"),
    ("haproxy", "", "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority"),
    ("nginx", "", "proxy_protocol on;"),
]


@pytest.mark.parametrize(("name", "bind", "server"), CASES, ids=lambda text: text)
async def test_our_server_learns_who_is_behind_a_proxy(
    name: str, bind: str, server: str, ours: tuple[str, Log], tmp_path: Path
) -> None:
    """The client's own address and port are in the log, and every byte comes back."""
    back, log = ours
    front = f"127.0.0.1:{free_port()}"
    command = PROXIES[name].start(
        tmp_path,
        front=front,
        back=back,
        bind=bind,
        server=server,
        defaults="unique-id-format %pid",
    )
    with running(command):
        await until_answering(front)
        options = techo.SocketOptions("127.0.0.7", source_port=free_port())
        async with techo.open_client(front, options=options) as client:
            for size in (1, 64, 100_000):
                assert (await client.round_trip(b"x" * size)).reply == b"x" * size
        client_address = f"127.0.0.7:{options.source_port}"
        await until(lambda: client_address in peers(log()))


def peers(lines: list[dict[str, object]]) -> set[str]:
    """Return who has connected."""
    return {str(each["peer"]) for each in lines if each.get("event") == "connected"}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", PROXIES)
async def test_a_proxy_understands_our_client(
    name: str, version: str, ours: tuple[str, Log], tmp_path: Path
) -> None:
    """It takes our header, and passes on the address in it: both ends say the same."""
    back, log = ours
    port = free_port()
    front = f"127.0.0.1:{port}"
    bind = "accept-proxy" if name == "haproxy" else "proxy_protocol"
    server = "send-proxy-v2" if name == "haproxy" else "proxy_protocol on;"
    command = PROXIES[name].start(
        tmp_path, front=front, back=back, bind=bind, server=server, defaults=""
    )
    options = techo.SocketOptions("127.0.0.9", send_proxy=version)
    with running(command):
        with trio.fail_after(60):
            while True:
                try:
                    async with techo.open_client(front, options=options) as client:
                        assert (await client.round_trip(b"hello")).reply == b"hello"
                        break
                except OSError:
                    await trio.sleep(0.05)  # another process: it does not say when it listens
        await until(lambda: any(each.startswith("127.0.0.9:") for each in peers(log())))


async def test_health_checks_are_the_proxy_s_own(ours: tuple[str, Log], tmp_path: Path) -> None:
    """HAProxy's checks say LOCAL; they are connections like others, and it finds us up."""
    back, log = ours
    front = f"127.0.0.1:{free_port()}"
    server = "send-proxy-v2 check inter 100ms check-send-proxy"
    command = PROXIES["haproxy"].start(
        tmp_path, front=front, back=back, bind="", server=server, defaults=""
    )
    with running(command):
        await until_answering(front)
        await until(lambda: len(peers(log())) > 3)
    assert [each for each in log() if each.get("event") == "refused"] == []
