"""What takes privileges, in a namespace in which anybody has them, or nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from helpers import PATIENCE, command, needs
from techo._server.datagrams import ANSWERING_PORTS


def unshared(*command_line: str, root: bool) -> subprocess.CompletedProcess[str]:
    """Run a command in a network of its own, as its root or without any privilege."""
    options = ["--user", "--net", *(["--map-root-user"] if root else [])]
    return subprocess.run(
        [needs("unshare"), *options, *command_line],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_a_privileged_port_is_explained() -> None:
    """To a user who may not bind it."""
    done = unshared(*command("1"), root=False)
    assert done.returncode == 2
    assert done.stderr == (
        "techo: cannot listen on tcp://127.0.0.1:1: permission denied; "
        "ports below 1024 need privileges; choose a higher one\n"
    )


def test_ports_that_answer_everything_are_not_answered() -> None:
    """Port 0 is among them, from which only a forger can send; port 8 is like any other."""
    done = unshared(sys.executable, str(Path(__file__).parent / "forger.py"), root=True)
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        **{str(port): ["guarded"] for port in ANSWERING_PORTS},
        "8": [],
    }


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("name", ["ping", "load", "check"])
def test_no_port_left_is_this_machine_s_shortage(name: str, kind: str) -> None:
    """In a network with four ports for clients, all of them taken."""
    script = """
    ip link set lo up
    echo 32768 32771 >/proc/sys/net/ipv4/ip_local_port_range
    exec "$@"
    """
    code = """
import errno, socket, subprocess, sys
kind, *command = sys.argv[1:]
kind = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
server, taken = socket.socket(type=kind), []
server.bind(("127.0.0.1", 8009))
if kind == socket.SOCK_STREAM:
    server.listen()
while True:
    taken.append(socket.socket(type=kind))
    if taken[-1].connect_ex(("127.0.0.1", 8009)):
        break
sys.exit(subprocess.run(command).returncode)
"""
    arguments = {"ping": ["-c", "1"], "load": ["-n", "1", "-W", "0.2"], "check": []}[name]
    done = unshared(
        *["sh", "-c", script, "sh", sys.executable, "-c", code, kind],
        *command(name, *arguments, f"{kind}://127.0.0.1:8009"),
        root=True,
    )
    assert done.returncode == 2
    assert "no port is left to connect from" in done.stderr
    assert "ip_local_port_range" in done.stderr


def test_too_few_ports_for_many_sockets_are_no_fault_of_the_server_s() -> None:
    """Where there are four, and sixty sockets are wanted at once."""
    script = """
    ip link set lo up
    echo 32768 32771 >/proc/sys/net/ipv4/ip_local_port_range
    exec "$@"
    """
    code = """
import subprocess, sys
serve, check = sys.argv[1:-4], sys.argv[1:4] + sys.argv[-4:]
with subprocess.Popen(serve, stdout=subprocess.PIPE) as server:
    server.stdout.readline()
    code = subprocess.run(check, stdout=subprocess.DEVNULL).returncode
    server.terminate()
sys.exit(code)
"""
    place = "udp://127.0.0.1:8009"
    done = unshared(
        *["sh", "-c", script, "sh", sys.executable, "-c", code],
        *command("--quiet", "--fault", "delay=200ms", place),
        *["check", "--connections", "60", place],
        root=True,
    )
    assert done.returncode == 2
    assert "no port is left to connect from" in done.stderr
    assert "many-at-once" not in done.stderr


@pytest.mark.parametrize("host", ["[fe80::1%lo]", "[::]"])
@pytest.mark.parametrize("kind", ["tcp", "udp", "tls"])
def test_zones_survive_on_both_sides(kind: str, host: str, tmp_path: Path) -> None:
    """A link-local address is bound, connected to, verified and printed with its zone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    authority.issue_cert("fe80::1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "both")
    )
    script = """
    ip link set lo up
    ip address add fe80::1/64 dev lo nodad
    exec "$@"
    """
    code = """
import subprocess, sys
kind, host, folder = sys.argv[1:]
techo = [sys.executable, "-m", "techo"]
place, tls = f"{kind}://{host}:0", [] if kind != "tls" else ["--tls-cert", folder + "/both"]
command = [*techo, *tls, "--reply", "raw", place]
with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
    line = server.stdout.readline().decode()
    print(line, end="", flush=True)
    endpoint = f"{kind}://[fe80::1%lo]:" + line.strip().rpartition(":")[2]
    tls = tls and ["--tls-ca", folder + "/ca"]
    for name, *rest in ["ping", "-c", "2", "-i", "0.01"], ["load", "-n", "10"], ["talk"]:
        done = subprocess.run([*techo, name, *rest, *tls, endpoint], input=b"hello\\n")
        print(name, done.returncode, flush=True)
    skipped = "1-MiB 16-MiB back-pressure many-at-once largest".split()
    skip = [word for each in skipped for word in ("--skip", each)]
    done = subprocess.run([*techo, "check", *skip, *tls, endpoint])
    print("check", done.returncode, flush=True)
    server.terminate()
"""
    done = unshared(
        *["sh", "-c", script, "sh", sys.executable, "-c", code, kind, host, str(tmp_path)],
        root=True,
    )
    out = done.stdout.splitlines()
    assert out[0].startswith(f"listening on {kind}://{host}:")
    for name in ("ping", "load", "talk", "check"):
        assert f"{name} 0" in out, done.stdout + done.stderr
    assert f"64 bytes from {kind}://[fe80::1%lo]:" in done.stdout
    if kind != "udp":  # whose datagrams have no line each
        assert "[fe80::1%lo]:" in done.stderr
