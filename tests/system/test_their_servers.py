"""Interop: other people's servers, with our client; and what starts servers, with ours."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, free_port, needs, run, running, until_answering


@attrs.frozen
class Server:
    """A program, and the endpoint that our client finds it at."""

    endpoint: str
    command: str
    """With the port, and the path of a file or socket."""
    config: str = ""
    """What is in the file, if it needs one."""


XINETD = """
defaults
{{
    log_type = FILE /dev/null
}}
service echo
{{
    type        = INTERNAL UNLISTED
    id          = echo-{protocol}
    socket_type = {socket_type}
    protocol    = {protocol}
    wait        = {wait}
    user        = root
    port        = PORT
    bind        = 127.0.0.1
    disable     = no
}}
"""
XINETD_TCP = XINETD.format(protocol="tcp", socket_type="stream", wait="no")
XINETD_UDP = XINETD.format(protocol="udp", socket_type="dgram", wait="yes")

SERVERS = [
    Server("tcp://127.0.0.1:{port}", "xinetd -dontfork -f {path}", XINETD_TCP),
    Server("udp://127.0.0.1:{port}", "xinetd -dontfork -f {path}", XINETD_UDP),
    Server(
        "tcp://127.0.0.1:{port}",
        "socat TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr PIPE",
    ),
    Server("udp://127.0.0.1:{port}", "socat UDP-LISTEN:{port},bind=127.0.0.1,fork PIPE"),
    Server("unix:{path}", "socat UNIX-LISTEN:{path},fork PIPE"),
    Server("unixpacket:{path}", "socat UNIX-LISTEN:{path},fork,socktype=5 PIPE"),
    Server("tcp://127.0.0.1:{port}", "ncat -l 127.0.0.1 {port} --keep-open --exec /bin/cat"),
]


RELIABLE = [each for each in SERVERS[:-1] if not each.config]
"""xinetd loses datagrams, ncat what it owes when its peer half-closes."""


def name(server: Server) -> str:
    """What to call one of them."""
    return f"{server.command.split()[0]} {server.endpoint.partition(':')[0]}"


@pytest.fixture(params=SERVERS, ids=name)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The endpoint of one of them, which is running."""
    wanted: Server = request.param
    needs(wanted.command.split()[0])
    kind = socket.SOCK_DGRAM if wanted.endpoint.startswith("udp") else socket.SOCK_STREAM
    names = {"port": free_port(kind), "path": tmp_path / "file"}
    if wanted.config:
        (tmp_path / "file").write_text(wanted.config.replace("PORT", str(names["port"])))
    endpoint = wanted.endpoint.format(**names)
    with running([word.format(**names) for word in wanted.command.split()]):
        trio.run(until_answering, endpoint)
        yield endpoint


async def trip(endpoint: str, data: bytes) -> techo.RoundTrip:
    """One round trip, tried again where it may be lost: xinetd drops some that come quickly."""
    patience = 1.0 if endpoint.startswith("udp") else PATIENCE
    for _ in range(5):
        with trio.move_on_after(patience):
            async with techo.open_client(endpoint) as client:
                return await client.round_trip(data)
    raise AssertionError("no reply")


@pytest.mark.parametrize("size", [1, 1400, 2048])
def test_our_client_gets_its_bytes_back(server: str, size: int) -> None:
    """From servers that know nothing of us."""
    data = os.urandom(size)
    assert trio.run(trip, server, data).reply == data


@pytest.mark.parametrize("server", RELIABLE, indirect=True, ids=name)
def test_talk_prints_what_they_send_back(server: str) -> None:
    """And says that all is well."""
    assert run("talk", server, stdin=b"hello\n") == (0, b"hello\n", "")


@pytest.mark.parametrize("server", SERVERS[1:2], indirect=True, ids=name)
def test_a_datagram_that_comes_back_cut_is_no_echo(server: str) -> None:
    """Of a longer one xinetd answers 2,048 bytes, which our client does not take for it."""
    with pytest.raises(AssertionError, match="no reply"):
        trio.run(trip, server, os.urandom(2049))


@pytest.mark.parametrize("server", SERVERS[1:2], indirect=True, ids=name)
def test_check_finds_where_xinetd_cuts(server: str) -> None:
    """That is all there is to say against it, if it is not asked by many at once."""
    code, out, _ = run("check", "--json", "--skip", "many-at-once", server)
    checks = {each["check"]: each for each in map(json.loads, out.splitlines()[:-1])}
    assert code == 1
    assert checks["largest"]["evidence"] == (
        "65,507 bytes came back cut to 2,048; the largest that came back whole has 2,048 bytes"
    )
    assert [name for name, each in checks.items() if each["verdict"] == "fail"] == ["largest"]


def test_ping_gets_its_probes_back(server: str) -> None:
    """All of them, and each only once; what datagrams lose is told, and adds up."""
    code, out, err = run("ping", "--json", "-c", "20", "-i", "0.05", "-W", "2", server)
    summary = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, "")
    assert summary["sent"] == 20 == summary["received"] + summary["lost"]
    assert summary["duplicate"] == 0
    if server.startswith(
        ("udp", "unixpacket")
    ):  # of which xinetd drops some, and socat glues some together
        assert set(summary["failures"]) <= {"timeout-reply", "corrupt", "short"}
    else:
        assert (summary["received"], summary["corrupt"]) == (20, 0)


def test_load_verifies_every_byte_of_theirs(server: str) -> None:
    """All trips add up, over several connections; only datagrams are lost."""
    arguments = ["-c", "2", "-n", "50", "-W", "0.5", "--json"]
    _, out, _ = run("load", server, *arguments)
    report = json.loads(out)
    assert report["received"] + report["lost"] == 50
    assert report["received_bytes"] == report["received"] * 64
    if server.startswith("udp"):  # of which xinetd drops some, and socat glues some together
        assert set(report["failures"]) <= {"timeout-reply", "corrupt"}
        assert report["received"] > 0
    else:
        assert (report["failures"], report["reconnects"]) == ({}, 0)


@pytest.mark.parametrize("server", SERVERS[5:6], indirect=True, ids=name)
def test_load_finds_out_who_glues_messages_together(server: str) -> None:
    """Several under way on a connection at once come back from socat's PIPE as one."""
    arguments = ["-c", "1", "-n", "200", "--pipeline", "16", "-W", "0.2", "--json"]
    end = time.monotonic() + PATIENCE
    code = 0
    while not code:  # on a machine that has other things to do it may read each by itself
        code, out, _ = run("load", server, *arguments)
        report = json.loads(out)
        assert report["received"] + report["lost"] == 200
        assert time.monotonic() < end
    assert code == 1
    assert report["failures"]["corrupt"] > 0


@pytest.mark.parametrize("kind", ["fd", "tls+fd"])
def test_systemd_socket_activate_starts_ours(
    kind: str, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    """At the first connection, which it passes on with the socket, over TLS if so asked."""
    needs("systemd-socket-activate")
    both = tmp_path / "both.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(both)
    over_tls = [f"--tls-cert={both}", f"{kind}:3"] if kind == "tls+fd" else []
    port = free_port()
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "-E", "PYTHONPATH"]
    command += [sys.executable, "-m", "techo", "-q", "--reply", "raw", *over_tls]
    with running(command) as process:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end
                time.sleep(0.02)  # another process: it does not say when it listens
        if over_tls:
            sock = client_tls.wrap_socket(sock, server_hostname="localhost")
        with sock:
            sock.sendall(b"hello")
            assert sock.recv(100) == b"hello"
        process.terminate()
        assert process.wait(PATIENCE) == 0
