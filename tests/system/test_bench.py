"""The benchmark itself: its programs compile, its figures are there, its load client checks."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import attrs
import pytest

from bench import measure, programs, report, rows, verdicts
from helpers import PATIENCE

ROW = rows.echo("tiny", 3, 200, {"c": 100.0})
EFFORT = measure.Effort(rounds=2, seconds=0.05)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> programs.Programs:
    """The C programs, without a warning."""
    folder = tmp_path_factory.mktemp("bench")
    try:
        return programs.compile_all(folder, "-Wall", "-Wextra", "-Werror")
    except programs.CannotMeasureError as error:
        if "cannot compile" in str(error) or "CI" in os.environ:
            pytest.fail(str(error))
        pytest.skip(str(error))


def test_a_row_gives_figures_a_ratio_and_a_verdict(
    compiled: programs.Programs, tmp_path: Path
) -> None:
    """Every server has its turn in every round, and the table has a line for each."""
    seen: list[int] = []
    turns = measure.measure(compiled, ROW, EFFORT, lambda: seen.append(1))
    assert len(seen) == 4
    for figures in (*turns["techo"], *turns["c"]):
        assert figures["messages"] > 0
        assert figures["cpu_us"] > 0
        assert figures["p50_us"] <= figures["p99_us"]

    result = report.Report(EFFORT)
    result.add(ROW, turns)
    ours, theirs = result.lines
    assert (ours.contender, ours.ratio, ours.reached) == ("techo", None, None)
    assert (theirs.contender, theirs.target, theirs.reached) == ("c", 100.0, True)
    assert "tiny: server CPU per message" in result.table()
    assert result.all_reached
    result.write_json(tmp_path / "raw.json")
    assert '"cpu_us"' in (tmp_path / "raw.json").read_text()


def test_ratios_are_paired_and_what_exceeds_its_target_falls_short() -> None:
    """The median of ratios counts, not a ratio of medians; a busy load client is named."""
    busy = {"load_share": 0.96, "server_share": 0.5, "lost": 1}
    turns = {
        "techo": [{"cpu_us": 300.0}, {"cpu_us": 200.0}, {"cpu_us": 404.0}],
        "c": [{"cpu_us": 1.0} | busy, {"cpu_us": 2.0} | busy, {"cpu_us": 4.0} | busy],
    }
    result = report.Report(EFFORT)
    result.add(ROW, turns)
    assert result.lines[1].ratio == verdicts.Spread(100.5, 101.0, 200.5)
    assert not result.all_reached
    assert "SHORT  the load client was the bottleneck; 3 datagrams were lost" in result.table()


def test_a_client_says_how_much_it_did_and_whether_it_had_to_wait() -> None:
    """Where clients are compared, a busy one is what is wanted, and an idle one is named."""
    turns = {
        "techo": [{"load_cpu_us": 10.0, "load_share": 0.99, "messages": 20}],
        "trio": [{"load_cpu_us": 20.0, "load_share": 0.5, "messages": 10}],
    }
    ours, theirs = verdicts.judge(rows.chosen(["load"])[0], turns)
    assert ours.notes == ("20 round trips a turn",)
    assert theirs.notes == ("10 round trips a turn", "busy 50% of the time only")


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (attrs.evolve(rows.chosen(["idle"])[0], load=("idle", "20")), "connection_bytes"),
        (attrs.evolve(rows.chosen(["delay"])[0], load=("echo", "20", "64")), "delay_p99_us"),
        (rows.chosen(["stamped"])[0], "cpu_us"),
        (rows.chosen(["proxy"])[0], "cpu_us"),
        (rows.chosen(["connect"])[0], "cpu_us"),
        (rows.chosen(["unix64"])[0], "cpu_us"),
        (rows.chosen(["udp64"])[0], "lost"),
        (rows.chosen(["udp1400"])[0], "cpu_us"),
        (attrs.evolve(rows.chosen(["tls64"])[0], load=("echo", "5", "64")), "cpu_us"),
        (rows.chosen(["tls1m"])[0], "cpu_us"),
        (rows.chosen(["tlsconnect"])[0], "cpu_us"),
        (attrs.evolve(rows.chosen(["tlsidle"])[0], load=("idle", "60")), "connection_bytes"),
        (attrs.evolve(rows.chosen(["tlsload"])[0], load=("echo", "5", "64")), "load_cpu_us"),
        (rows.chosen(["load"])[0], "load_cpu_us"),
        (attrs.evolve(rows.chosen(["dribbling"])[0], load=("dribble", "5")), "echo_p99_ms"),
        (attrs.evolve(rows.chosen(["hasty"])[0], load=("haste", "5")), "echo_p99_ms"),
        *((row, "p50_us") for row in rows.chosen(["clock"])),
        (attrs.evolve(rows.chosen(["watch"])[0], load=("watch", "5", "1")), "cores"),
        (attrs.evolve(rows.chosen(["watch-udp"])[0], load=("watch", "5", "1")), "probe_us"),
        (
            attrs.evolve(rows.chosen(["watch-day"])[0], load=("memory", "5", "1")),
            "resident_mib",
        ),
        (
            attrs.evolve(rows.chosen(["watch-metrics"])[0], load=("metrics", "5", "1")),
            "turn_ms",
        ),
        (
            attrs.evolve(rows.chosen(["capacity"])[0], load=("10", "p50<30ms", "100")),
            "off_percent",
        ),
        (attrs.evolve(rows.chosen(["page"])[0], load=("5", "1")), "first_server_ms"),
        (rows.chosen(["help"])[0], "start_cpu_ms"),
        (rows.chosen(["version"])[0], "start_cpu_ms"),
    ],
    ids=lambda value: value.name if isinstance(value, rows.Row) else None,
)
def test_every_kind_of_row_has_its_figures(
    compiled: programs.Programs, row: rows.Row, key: str
) -> None:
    """Also those that need a fresh server, a probe, a stamp, or no TCP, or compare clients."""
    # The probe naps, and ping's turns have a message each 10 ms.
    waits = row.probed or row.name.startswith("clock")
    row = attrs.evolve(row, least_seconds=0.2 if waits else 0)
    turns = measure.measure(compiled, row, measure.Effort(1, 0.05), lambda: None)
    assert set(turns) == set(programs.present(row))
    assert all(key in figures for each in turns.values() for figures in each)


def wrong_byte(data: bytes) -> bytes:
    """Change the last byte, and only that."""
    return data[:-1] + bytes([data[-1] ^ 1])


def serve_once(
    transport: str, certificate: Path, reply: Callable[[bytes], bytes], stack: ExitStack
) -> str:
    """Answer one message, in a thread; give the address as the load client takes it."""
    family = socket.AF_UNIX if transport == "unix" else socket.AF_INET
    type_ = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    sock = stack.enter_context(socket.socket(family, type_))
    name = f"@test-{os.getpid()}"
    sock.bind(name.replace("@", "\0") if transport == "unix" else ("127.0.0.1", 0))

    def answer_datagram() -> None:
        data, peer = sock.recvfrom(64)
        sock.sendto(reply(data), peer)

    def answer_connection() -> None:
        peer, _ = sock.accept()
        sock.close()  # who comes again is told at once
        if transport == "tls":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            peer = context.wrap_socket(peer, server_side=True)
        with peer, suppress(OSError):  # who has found out that it is no echo is gone
            peer.sendall(reply(peer.recv(64)))
            if isinstance(peer, ssl.SSLSocket):
                peer.unwrap()

    address = f"{transport}:{name if transport == 'unix' else sock.getsockname()[1]}"
    if transport != "udp":
        sock.listen()
    thread = threading.Thread(
        target=answer_datagram if transport == "udp" else answer_connection
    )
    thread.start()
    stack.callback(thread.join, PATIENCE)
    return address


def load(
    compiled: programs.Programs, address: str, work: str, name: str = "c"
) -> CompletedProcess[str]:
    """Run a load client against a server in this process."""
    return subprocess.run(
        [*compiled.client(name), address, str(os.getpid()), *work.split()],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("transport", "work", "reply", "complaint"),
    [
        ("tcp", "echo 1 64", wrong_byte, "a wrong byte"),
        ("tcp", "echo 1 64", lambda data: data + b"!", "more came back"),
        ("tcp", "echo 1 64", lambda data: data[:-1], "end-of-file in mid-message"),
        ("tcp", "trip", wrong_byte, "a wrong byte"),
        ("tcp", "trip", lambda data: data[:-1], "end-of-file in mid-message"),
        ("tcp", "idle 1", wrong_byte, "a wrong byte"),
        ("unix", "echo 1 64", wrong_byte, "a wrong byte"),
        ("unix", "trip", lambda data: data[:-1], "end-of-file in mid-message"),
        ("udp", "echo 1 64", wrong_byte, "a wrong byte"),
        ("udp", "echo 1 64", lambda data: data + b"!", "more came back"),
        ("udp", "echo 1 64", lambda data: data[:-1], "a datagram came back cut short"),
        ("tls", "echo 1 64", wrong_byte, "a wrong byte"),
        ("tls", "echo 1 64", lambda data: data + b"!", "more came back"),
        ("tls", "echo 1 64", lambda data: data[:-1], "end-of-file in mid-message"),
        ("tls", "trip", wrong_byte, "a wrong byte"),
        ("tls", "trip", lambda data: data + b"!", "more came back"),
        ("tls", "trip", lambda data: data[:-1], "end-of-file in mid-message"),
        ("tls", "idle 1", wrong_byte, "a wrong byte"),
    ],
)
def test_load_tells_a_server_that_does_not_echo(
    compiled: programs.Programs,
    transport: str,
    work: str,
    reply: Callable[[bytes], bytes],
    complaint: str,
) -> None:
    """It exits with 1 and says what was wrong, whatever work it does over whatever."""
    with ExitStack() as stack:
        address = serve_once(transport, compiled.certificate, reply, stack)
        done = load(compiled, address, f"{work} 0.05")
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr


@pytest.mark.parametrize(
    "reply", [wrong_byte, lambda data: data + b"!", lambda data: data[:-1]]
)
@pytest.mark.parametrize("name", ["techo", "techo-tasks"])
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_clients_that_are_compared_verify(
    compiled: programs.Programs, transport: str, name: str, reply: Callable[[bytes], bytes]
) -> None:
    """A wrong byte, one too many and one too few make them fail, not faster."""
    with ExitStack() as stack:
        address = serve_once(transport, compiled.certificate, reply, stack)
        done = load(compiled, address, "echo 1 64 0.05", name)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search("did not echo|EchoMismatch|ShortReply", done.stderr)


def test_load_sends_a_lost_datagram_again(compiled: programs.Programs) -> None:
    """It counts the lost ones, and goes on; an answer that is late does not confuse it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, ExitStack() as stack:
        sock.bind(("127.0.0.1", 0))
        late: dict[bytes, Any] = {}

        def forget_some() -> None:
            for number in itertools.count():
                data, peer = sock.recvfrom(64)
                if not data:
                    return
                if data in late:
                    sock.sendto(data, late.pop(data))
                elif number % 50 == 49:
                    late[data] = peer
                    continue
                sock.sendto(data, peer)

        thread = threading.Thread(target=forget_some)
        thread.start()
        stack.callback(thread.join, PATIENCE)
        stack.callback(sock.sendto, b"", sock.getsockname())
        done = load(compiled, f"udp:{sock.getsockname()[1]}", "echo 2 64 0.5")
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert figures["lost"] > 0
    assert figures["messages"] > figures["lost"]


@pytest.mark.parametrize("style", ["dribble", "haste"])
def test_a_fresh_connection_beside_handshakes_is_verified(
    compiled: programs.Programs, style: str
) -> None:
    """What comes back to it must be what it said, and the handshakes end with the program."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as silent:
        address = serve_once("tcp", compiled.certificate, wrong_byte, stack)
        addresses = f"tls:{silent.getsockname()[1]},{address}"
        done = load(compiled, addresses, f"{style} 3 0.05", programs.HANDSHAKES)
        assert (done.returncode, done.stdout) == (1, "")
        assert "a wrong byte" in done.stderr
        silent.settimeout(0)
        with suppress(BlockingIOError):  # on a busy machine it may not have begun with them
            peer, _ = silent.accept()
            with peer, suppress(ConnectionResetError):
                peer.settimeout(PATIENCE)
                while peer.recv(4096):
                    pass


def test_load_says_what_is_no_handshake(compiled: programs.Programs) -> None:
    """A peer that is none of TLS ends it, with 1, before anything is measured."""
    with ExitStack() as stack:
        address = serve_once("tcp", compiled.certificate, lambda _: b"hello\r\n", stack)
        done = load(compiled, address.replace("tcp:", "tls:"), "echo 1 64 0.05")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no handshake\n")


@pytest.mark.parametrize(
    ("contender", "absent"),
    [
        ("uvloop-streams", {"uvloop"}),
        ("aiofastnet", {"aiofastnet"}),
        ("aiofastnet-uvloop", {"uvloop"}),
        ("aiofastnet-uvloop", {"aiofastnet"}),
    ],
)
def test_a_peer_that_is_not_installed_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, contender: str, absent: set[str]
) -> None:
    """It needs what its name says; without a part of it, the others are measured."""
    row = rows.echo("tiny", 3, 200, {contender: 1.0, "c": 100.0})
    spec = object()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: (name not in absent) and spec)
    assert {programs.missing(contender)} == absent
    assert programs.present(row) == ("techo", "c")
    result = report.Report(EFFORT)
    monkeypatch.undo()
    result.add(row, {name: [{"cpu_us": 1.0}] for name in ("techo", "c")})
    assert f"Not compared, because not installed: {contender}" in result.table()
