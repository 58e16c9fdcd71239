"""Networks of several hosts, in namespaces where anybody is root; they go with their block."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import attrs

from helpers import PATIENCE, needs

HOSTS = {4: "10.7.1.2", 6: "[fd07:1::2]"}
"""The second of two hosts that `joined` joins by wire number 1, in both versions of IP."""

NO_RAW = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
"""Takes away the privilege of raw sockets; put before a command."""


@attrs.frozen
class Network:
    """Hosts, each with a network of its own, that a script has made and joined."""

    holder: int
    """The process whose namespaces they are in."""

    def on(self, host: str) -> list[str]:
        """Return what runs a command on a host, put before it."""
        enter = [needs("nsenter"), f"--target={self.holder}", "--user", "--mount", "--net"]
        return [*enter, "--preserve-credentials", needs("ip"), "netns", "exec", host]

    def run(self, host: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a host to its end."""
        return subprocess.run(
            [*self.on(host), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
            env=environment(),
        )


def environment() -> dict[str, str]:
    """The environment of programs there, which import what this process does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def joined(one: str, other: str, number: int) -> str:
    """Return the script that joins two hosts: 10.7.NUMBER.1 and .2, fd07:NUMBER::1 and ::2."""
    lines = [f"ip link add v{number} netns {one} type veth peer name v{number} netns {other}"]
    for index, host in enumerate((one, other), 1):
        ip = f"ip -n {host}"
        lines += [
            f"{ip} address add 10.7.{number}.{index}/24 dev v{number}",
            f"{ip} address add fd07:{number}::{index}/64 dev v{number} nodad",
            f"{ip} link set v{number} up",
        ]
    for host in (one, other):
        # The kernel looks at new links once a second. Until it has, IPv6 finds no neighbours.
        ready = f"ip -n {host} -oneline link show v{number} | grep -q 'state UP'"
        lines.append(f"until {ready}; do sleep 0.01; done")
    return "\n".join(lines)


@contextlib.contextmanager
def network(hosts: Sequence[str], *scripts: str) -> Iterator[Network]:
    """Make hosts, each with its loopback interface, and run scripts that join them."""
    made = [f"ip netns add {host}; ip -n {host} link set lo up" for host in hosts]
    script = "\n".join(["mount -t tmpfs none /run", *made, *scripts, "echo ready", "exec cat"])
    needs("ip")
    unshare = [needs("unshare"), "--user", "--map-root-user", "--net", "--mount"]
    with subprocess.Popen(
        [*unshare, "sh", "-ec", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"ready\n"
            yield Network(holder.pid)
        finally:
            holder.stdin.close()
