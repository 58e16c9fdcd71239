"""serve --workers as processes: who dies, who comes after, who is signalled, what is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from helpers import PATIENCE, Process, command, dial, receive_exactly, serving, wait_until
from terminals import on_a_terminal

TWO = ("--workers", "2", "--reply", "raw", "--log-format", "json", "-v")


def starts(process: Process) -> dict[int, int]:
    """Return how often each worker has begun to serve."""
    found = {1: 0, 2: 0}
    for line in lines(process):
        if line["event"] == "starting":
            found[line["worker"]] += 1
    return found


def wait_for_starts(process: Process, count: int) -> None:
    """Wait until workers have begun to serve so often."""
    wait_until(lambda: sum(starts(process).values()) >= count, "no worker has started")


def wait_for_message(process: Process, text: str, count: int = 1) -> None:
    """Wait until the log has said something so often."""
    wait_until(lambda: messages(process).count(text) >= count, f"the log has no {text!r}")


def lines(process: Process) -> list[dict[str, Any]]:
    """Return its log so far."""
    whole = process.read_log().rpartition("\n")[0].splitlines()
    return [json.loads(line) for line in whole if line.startswith("{")]


def messages(process: Process) -> str:
    """Return what the log says in words."""
    return "\n".join(line["message"] for line in lines(process) if "message" in line)


def workers_of(process: Process) -> list[int]:
    """Return the processes of its workers."""
    # A child is of the thread that has started it.
    threads = Path(f"/proc/{process.popen.pid}/task").glob("*/children")
    return sorted(int(each) for thread in threads for each in thread.read_text().split())


@contextlib.contextmanager
def two(*arguments: str, sockets: int = 1, prefix: Sequence[str] = ()) -> Iterator[Process]:
    """Run a server with two workers for a block, and with no terminal."""
    with serving(*TWO, *arguments, sockets=sockets, prefix=prefix or ("setsid",)) as process:
        yield process


def connected(process: Process, count: int) -> list[socket.socket]:
    """Return so many connections, which may not have been accepted yet."""
    return [dial(process) for _ in range(count)]


def close(socks: list[socket.socket]) -> None:
    """Close them all."""
    for sock in socks:
        sock.close()


def test_what_waits_for_a_worker_that_is_killed_is_served_by_the_next() -> None:
    """Of 40 connections those that it had not accepted are answered; the sum has those too."""
    with two() as process:
        halted, _ = workers_of(process)
        os.kill(halted, signal.SIGSTOP)
        socks = connected(process, 40)
        for sock in socks:
            sock.sendall(b"hello")
        wait_until(lambda: process.statistics()["accepted"] > 0, "nobody was accepted")
        waiting = 40 - process.statistics()["accepted"]
        assert 0 < waiting < 40
        os.kill(halted, signal.SIGKILL)
        for sock in socks:
            assert receive_exactly(sock, 5) == b"hello"
        assert "was ended by signal 9; it is started again" in messages(process)
        found = process.counters()
        assert (found["accepted"], found["active"], found["received_bytes"]) == (40, 40, 200)
        killed = next(each for each in workers_of(process) if each != halted)
        wait_until(lambda: len(workers_of(process)) == 2, "there is no successor")
        os.kill(killed, signal.SIGKILL)
        wait_for_starts(process, 4)
        found = process.counters()
        assert (found["accepted"], found["active"] + found["aborted"]) == (40, 40)
        assert found["received_bytes"] == 200
        close(socks)
        code, _, _ = process.finish()
    assert code == 1  # as where connections were aborted


def test_workers_that_die_again_and_again_end_the_server() -> None:
    """The sixth death within a minute is one line with the reason, and status 1."""
    with two() as process:
        for count in range(2, 8):
            wait_for_starts(process, count)
            os.kill(workers_of(process)[0], signal.SIGKILL)
        code, _, err = process.finish(None)
    assert code == 1
    reason = (
        "techo: 6 workers died within 60 s, which ends the server; of the last one, it was "
        "ended by signal 9"
    )
    assert reason in err.splitlines()  # the log's own lines may come later


def certify(authority: trustme.CA, folder: Path) -> bytes:
    """Write a new certificate and its key; return it as clients see it."""
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def shown(process: Process) -> bytes | None:
    """Return the certificate that the second endpoint shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = ("127.0.0.1", process.endpoints[1].port)
    with context.wrap_socket(socket.create_connection(address, PATIENCE)) as sock:
        return sock.getpeercert(binary_form=True)


def test_a_reload_under_load_loses_no_trip_and_shows_a_new_certificate(
    authority: trustme.CA, tmp_path: Path
) -> None:
    """Every worker is replaced, twice; a certificate that is none keeps those that run."""
    files = [f"--tls-cert={tmp_path}/cert.pem", f"--tls-key={tmp_path}/key.pem"]
    places = ["tcp://127.0.0.1:0", "tls://127.0.0.1:0", "udp://127.0.0.1:0"]
    old = certify(authority, tmp_path)
    with two(*files, *places, sockets=3) as process:
        assert shown(process) == old
        loads = [
            subprocess.Popen(
                command("load", "--json", "-r", "200", "-c", "5", "-d", "8", str(place)),
                stdout=subprocess.PIPE,
            )
            for place in (process.endpoints[0], process.endpoints[2])
        ]
        wait_until(lambda: process.statistics()["active"] == 5, "no load")
        for count in (1, 2):
            new = certify(authority, tmp_path)
            process.popen.send_signal(signal.SIGHUP)
            wait_for_message(process, "reloaded 2 workers", count)
            assert shown(process) == new
        (tmp_path / "cert.pem").write_text("nonsense")
        process.popen.send_signal(signal.SIGHUP)
        wait_for_message(process, "reload failed")
        assert shown(process) == new
        for popen in loads:
            out, _ = popen.communicate(timeout=PATIENCE)
            report = json.loads(out)
            assert (popen.returncode, report["lost"], report["received"]) == (0, 0, 1600)
        assert starts(process) == {1: 3, 2: 3}
        assert process.finish()[0] == 0
        assert len(re.findall("reload failed: .*no PEM file", messages(process))) == 1


def test_workers_end_when_their_parent_is_killed() -> None:
    """Connections that wait for nothing are drained."""
    with two() as process:
        with dial(process) as sock:
            sock.sendall(b"hello")
            assert receive_exactly(sock, 5) == b"hello"
            left = workers_of(process)
            process.popen.kill()
            assert sock.recv(1) == b""
        wait_until(lambda: not any(map(is_there, left)), "some are left")
        assert '"outcome": "drained"' in process.read_log()


def is_there(pid: int) -> bool:
    """Return whether a process is not over; its parent may not have asked how it ended."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid(1)")
@pytest.mark.parametrize("how", ["Ctrl-C", "hang-up"])
def test_a_terminal_is_the_parents(how: str) -> None:
    """Ctrl-C, and a hang-up where there is a terminal, drain the server once, as without."""
    with on_a_terminal("--workers", "2", "tcp://127.0.0.1:0") as terminal:
        terminal.read_until("Ctrl-C stops it")
        port = int(re.findall(r"listening on tcp://127.0.0.1:(\d+)", terminal.seen)[0])
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            sock.sendall(b"hello")
            assert sock.recv(100).endswith(b"hello")
            if how == "hang-up":
                terminal.popen.send_signal(signal.SIGHUP)
            else:
                terminal.type(b"\x03")
            assert sock.recv(100) == b""
        assert terminal.popen.wait(PATIENCE) == (0 if how == "hang-up" else -signal.SIGINT)


@pytest.mark.parametrize("kind", ["unix", "unixpacket"])
def test_a_shared_socket_is_served_by_who_is_there(kind: str, tmp_path: Path) -> None:
    """While one worker halts, the other accepts, each of them in turn."""
    with two(f"{kind}:{tmp_path}/s") as process:
        sort = socket.SOCK_STREAM if kind == "unix" else socket.SOCK_SEQPACKET
        for halted in workers_of(process):
            os.kill(halted, signal.SIGSTOP)
            with socket.socket(socket.AF_UNIX, sort) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(f"{tmp_path}/s")
                sock.send(b"hello")
                assert sock.recv(10) == b"hello"
            os.kill(halted, signal.SIGCONT)
        assert process.finish()[0] == 0
        served = [line["worker"] for line in lines(process) if line["event"] == "connected"]
    assert sorted(served) == [1, 2]


def test_datagrams_of_one_peer_stay_with_one_worker() -> None:
    """Of 30 peers some are with each worker."""
    with two("udp://127.0.0.1:0") as process:
        for _ in range(30):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(("127.0.0.1", process.port))
                for _ in range(3):
                    sock.send(b"hello")
                    assert sock.recv(10) == b"hello"
        assert process.statistics()["datagrams"]["echoed"] == 90
        assert process.finish()[0] == 0
        echoed = [line for line in lines(process) if line["event"] == "echoed"]
    served: dict[str, set[int]] = {}
    for line in echoed:
        served.setdefault(line["peer"], set()).add(line["worker"])
    assert {len(each) for each in served.values()} == {1}
    assert set.union(*served.values()) == {1, 2}


def stuck(process: Process) -> list[socket.socket]:
    """Return connections whose server has a reply that they do not read."""
    socks = connected(process, 4)
    for sock in socks:
        sock.settimeout(0)
    before = -1
    while (now := process.statistics()["received_bytes"]) != before:
        before = now
        for sock in socks:
            with contextlib.suppress(BlockingIOError):
                while sock.send(bytes(2**16)):
                    pass
    return socks


@pytest.mark.parametrize("timeout", ["300", "0.2"])
def test_what_is_cut_makes_exit_status_1(timeout: str) -> None:
    """By the end of the drain, or by a second signal long before; all of it is counted."""
    with two("--drain-timeout", timeout) as process:
        socks = stuck(process)
        if timeout == "300":
            process.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: "draining" in process.read_log(), "the first signal was seen")
        code, _, _ = process.finish()
        close(socks)
        totals = [each for each in lines(process) if each["event"] == "total"]
    assert code == 1
    (total,) = (each for each in totals if "worker" not in each)
    assert (total["accepted"], total["active"], total["outcomes"]["aborted"]) == (4, 0, 4)


def test_systemd_hears_of_all_and_its_signals_to_each_process_do_no_harm(
    tmp_path: Path,
) -> None:
    """READY=1 is when all listen; SIGTERM to parent and workers at once drains once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(f"{tmp_path}/n")
        notified.settimeout(PATIENCE)
        prefix = ["setsid", "env", f"NOTIFY_SOCKET={tmp_path}/n"]
        with two(prefix=prefix) as process:
            assert notified.recv(100) == b"READY=1"
            process.popen.send_signal(signal.SIGHUP)
            assert notified.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert notified.recv(100) == b"READY=1"
            sock = dial(process)
            sock.sendall(b"hello")
            assert receive_exactly(sock, 5) == b"hello"
            for pid in workers_of(process):
                os.kill(pid, signal.SIGTERM)
            process.popen.send_signal(signal.SIGTERM)
            assert sock.recv(1) == b""
            sock.close()
            assert process.finish(None)[0] == 0
            assert notified.recv(100) == b"STOPPING=1"


def page(url: str) -> tuple[int, str]:
    """Return the status and the text of a page."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310  -- of a server of ours
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def test_metrics_are_of_all_workers_and_a_lame_duck_is_not_ready() -> None:
    """What both count is one figure; after the first signal, connections end with a reply."""
    with two("--metrics", "0", "--lame-duck", "1h") as process:
        place = re.compile(r"metrics on (http://[\w.:]+)/metrics")
        wait_until(lambda: place.search(process.read_log()), "there are no metrics")
        (url,) = place.findall(process.read_log())
        socks = connected(process, 20)
        for sock in socks:
            sock.sendall(b"hello")
            assert receive_exactly(sock, 5) == b"hello"
        wanted = "techo_active_connections 20.0"
        wait_until(lambda: wanted in page(f"{url}/metrics")[1], "they were not counted")
        assert page(f"{url}/readyz")[0] == 200
        process.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: page(f"{url}/readyz")[0] == 503, "it is ready")
        assert process.statistics()["active"] == 20
        for sock in socks:
            sock.sendall(b"again")
            assert receive_exactly(sock, 100) == b"again"  # and the end
            sock.close()
        assert process.finish()[0] == 0
