"""techo proxy: what it passes on, what it reports, and what it refuses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import techo
from helpers import PATIENCE, call, dial, free_port, receive_exactly, serving, wait_until
from techo._cli.fault_file import REREAD


def test_it_runs_as_a_server_does(tmp_path: Path) -> None:
    """It says where it listens, passes bytes on, counts, reads its faults again and drains."""
    faults = tmp_path / "faults"
    faults.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as far:
        far.settimeout(PATIENCE)
        target = f"tcp://127.0.0.1:{far.getsockname()[1]}"
        arguments = ["--fault-file", str(faults), "--upstream-fault=lengthen=1"]
        with serving("proxy", *arguments, "tcp://127.0.0.1:0", target) as process:

            def exchange(reply: bytes) -> tuple[bytes, bytes]:
                with dial(process) as client, far.accept()[0] as ours:
                    client.sendall(b"request")
                    client.shutdown(socket.SHUT_WR)
                    request = receive_exactly(ours, 100)
                    ours.sendall(reply)
                    ours.close()
                    return request[:-1], receive_exactly(client, 100)

            assert exchange(b"reply") == (b"request", b"reply")
            wait_until(lambda: process.counters()["eof"] == 1, "it has counted it")
            found = process.statistics()
            assert (found["received_bytes"], found["sent_bytes"]) == (7, 5)
            if REREAD:
                faults.write_text("truncate=2")
                process.popen.send_signal(REREAD[0])
                wait_until(
                    lambda: "1 fault from now on" in process.read_log(), "it has read it"
                )
                assert exchange(b"reply") == (b"request", b"re")
                assert process.read_log().count("from now on") == 1
            code, _, log = process.finish()
    assert (code, "stopped; in total" in log) == (0, True)


def test_datagrams_end_before_the_last_line(tmp_path: Path) -> None:
    """The sum in the log has what came of the last source."""
    with socket.socket(type=socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(PATIENCE)
        target = f"udp://127.0.0.1:{far.getsockname()[1]}"
        place = f"unixgram:{tmp_path}/proxy"
        with (
            serving("proxy", "-v", place, target) as process,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client,
        ):
            client.bind(f"{tmp_path}/client")
            client.sendto(b"request", f"{tmp_path}/proxy")
            _, sender = far.recvfrom(100)
            far.sendto(b"reply", sender)
            client.settimeout(PATIENCE)
            assert client.recv(100) == b"reply"
            code, _, log = process.finish()
    assert code == 0
    assert f"passed on a datagram of {tmp_path}/client: 7 bytes in, 7 out" in log
    assert "outcome=drained" in log
    *_, last = log.splitlines()
    assert "stopped; in total accepted=1, outcomes={drained: 1}" in last


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "proxy needs LISTEN and TARGET, as in techo proxy 8010 example.org:80"),
        (["8010"], "TARGET is missing; write LISTEN and TARGET"),
        (["8010", "8011", "8012"], "'8012' is one too many; write LISTEN and TARGET"),
        (["localhost", "80"], "are two endpoints; write localhost:80"),
        (["udp://8010", "8011"], "both are to be udp or unixgram"),
        (["ip://127.0.0.1/253", "udp://127.0.0.1:1"], "both are to be udp or unixgram"),
        (["unixpacket:/nowhere", "8011"], "both are to be unixpacket"),
        (["tls://127.0.0.1:0", "8011"], "passes TLS through untouched: listen at tcp"),
        (["0", "tls://127.0.0.1:1"], "passes TLS through untouched; write tcp://127.0.0.1:1"),
        (["*:8010", "localhost:8010"], "would connect to itself for ever"),
        (["0", "icmp://localhost"], "icmp is for ping only"),
        (["0", "*:80"], "name host and port"),
        (["--upstream-fault=drop", "0", "8011"], "fault drop cannot happen on tcp://127.0.0.1"),
        (["--fault=wrong-name", "0", "8011"], "serve a tls endpoint with it instead"),
        (["--fault-file=/no/such", "0", "8011"], "cannot read '/no/such'"),
        (["unix:/no/such/path", "8011"], "no such file or directory; make its directory first"),
    ],
)
def test_mistakes_are_named_with_their_remedy(arguments: list[str], says: str) -> None:
    """Each is one line on standard error, and nothing is listened on."""
    code, out, err = call("proxy", *arguments)
    assert (code, out) == (2, b"")
    assert says in err
    assert err.count("\n") == 1


def test_a_port_in_use_is_named() -> None:
    """So is what to do about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = techo.Endpoint(port=taken.getsockname()[1])
        code, _, err = call("proxy", str(place), f"localhost:{free_port()}")
    assert code == 2
    assert f"cannot listen on {place}: address already in use; stop what listens there" in err
