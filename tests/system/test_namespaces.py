"""What takes privileges, in a namespace in which anybody has them, or nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
