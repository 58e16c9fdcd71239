"""Interop: the tools that people have, as clients of our server, on every kind of endpoint."""

from __future__ import annotations

import os
import re
import select
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

import attrs
import pytest
import trustme

from helpers import PATIENCE, Process, needs, serving


@attrs.frozen
class Client:
    """A program, and what it connects to."""

    endpoint: str
    command: str
    """With the names of what the server has: port, path and ca."""
    ends: bool = True
    """Whether it half-closes, and ends when the server has closed."""


CLIENTS = [
    Client("tcp://127.0.0.1:0", "nc -N 127.0.0.1 {port}"),
    Client("tcp://127.0.0.1:0", "ncat 127.0.0.1 {port}"),
    Client("tcp://127.0.0.1:0", "socat -t 30 - TCP:127.0.0.1:{port}"),
    Client("tcp://[::1]:0", "socat -t 30 - TCP6:[::1]:{port}"),
    Client("unix:{path}", "nc -N -U {path}"),
    Client("unix:{path}", "ncat -U {path}"),
    Client("unix:{path}", "socat -t 30 - UNIX-CONNECT:{path}"),
    Client("unix:@{path}", "socat -t 30 - ABSTRACT-CONNECT:{path}"),
    Client("unixpacket:{path}", "socat -t 30 - UNIX-CONNECT:{path},socktype=5"),
    Client("udp://127.0.0.1:0", "nc -u 127.0.0.1 {port}", ends=False),
    Client("udp://127.0.0.1:0", "ncat -u 127.0.0.1 {port}", ends=False),
    Client("udp://*:0", "socat - UDP:127.0.0.2:{port}", ends=False),
    Client("udp://[::1]:0", "socat - UDP6:[::1]:{port}", ends=False),
    Client("unixgram:{path}", "socat - UNIX-SENDTO:{path},bind={path}-peer", ends=False),
    Client("tls://127.0.0.1:0", "socat - OPENSSL:127.0.0.1:{port},cafile={ca}", ends=False),
    Client(
        "tls://127.0.0.1:0",
        "ncat --ssl-verify --ssl-trustfile {ca} localhost {port}",
        ends=False,
    ),
    Client(
        "tls://127.0.0.1:0",
        "openssl s_client -quiet -verify_return_error -CAfile {ca} -connect 127.0.0.1:{port}",
        ends=False,
    ),
]


STREAMS = [each for each in CLIENTS if not each.endpoint.startswith(("udp", "unixgram"))]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.command)
def client(request: pytest.FixtureRequest) -> Client:
    """One of them, if it is installed; in CI it must be."""
    client: Client = request.param
    needs(client.command.split()[0])
    return client


@pytest.fixture
def options(client: Client, authority: trustme.CA, tmp_path: Path) -> list[str]:
    """What the server needs for that client's endpoint."""
    endpoint = client.endpoint.format(path=tmp_path / "echo")
    if not endpoint.startswith("tls"):
        return [endpoint]
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return [f"--tls-cert={tmp_path}/server.pem", endpoint]


def ask(client: Client, process: Process, folder: Path, data: bytes, owed: int) -> bytes:
    """Send with that client, and give what it printed: all of it, or `owed` bytes at least."""
    names = {"port": process.port, "path": folder / "echo", "ca": folder / "ca.pem"}
    command = [word.format(**names) for word in client.command.split()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        try:
            if client.ends:
                return peer.communicate(data, PATIENCE)[0]
            # Sending and receiving at the same time, as all of these do.
            sender = threading.Thread(target=send, args=(peer.stdin, data))
            sender.start()
            back = read(peer.stdout.fileno(), owed)
            sender.join(PATIENCE)
            return back
        finally:
            peer.kill()


def send(pipe: IO[bytes], data: bytes) -> None:
    """Write everything, and leave the pipe open: these tools end at its end."""
    pipe.write(data)
    pipe.flush()


def read(descriptor: int, least: int) -> bytes:
    """Read what is printed until there is enough of it."""
    back, end = b"", time.monotonic() + 10 * PATIENCE
    while len(back) < least and time.monotonic() < end:
        if select.select([descriptor], [], [], PATIENCE)[0]:
            back += os.read(descriptor, 2**16)
    return back


def test_hello_comes_back_stamped(client: Client, options: list[str], tmp_path: Path) -> None:
    """`printf hello | nc` and the like print exactly one stamped hello."""
    sockets = 2 if "*" in client.endpoint else 1
    with serving(*options, sockets=sockets) as process:
        back = ask(client, process, tmp_path, b"hello", 32)
        assert re.fullmatch(rb"\[.{24}\] hello", back)
        code, _, err = process.finish()
    assert code == 0
    if client.ends:
        assert "outcome=eof chunks=1 bytes_in=5 bytes_out=32" in err


@pytest.mark.parametrize("client", STREAMS, indirect=True, ids=lambda client: client.command)
def test_more_than_buffers_hold_comes_back(
    client: Client, options: list[str], tmp_path: Path
) -> None:
    """Every byte; and where there is a half-close, the end is an end."""
    data = os.urandom(2**20) * (8 if client.ends else 1)
    with serving("--reply", "raw", *options) as process:
        assert ask(client, process, tmp_path, data, len(data)) == data
        _, _, err = process.finish()
    if client.ends:
        assert "outcome=eof" in err
