"""Multipath TCP over two paths, and where one end has it switched off."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from helpers import command, serving, wait_until
from networks import Network, environment, joined, network

PATHS = """
for host in client server; do
  ip netns exec $host ip mptcp limits set subflow 2 add_addr_accepted 2
done
ip netns exec client ip mptcp endpoint add 10.7.2.1 dev v2 subflow
"""
"""The client opens a second subflow from its other address."""

OFF = ("sysctl", "--quiet", "--write", "net.mptcp.enabled=0")


@pytest.fixture
def paths() -> Iterator[Network]:
    """Two hosts joined by two wires."""
    with network(
        ["client", "server"],
        joined("client", "server", 1),
        joined("client", "server", 2),
        PATHS,
    ) as made:
        yield made


def test_both_ends_say_how_many_subflows_there_were(paths: Network) -> None:
    """As many as the kernel shows TCP connections for; a rule may be about their number."""
    with serving("mptcp://10.7.1.2:8009", prefix=paths.on("server")) as server:
        place, few = str(server.endpoints[0]), ["--fail-if", "subflows<2"]
        ping = command("ping", "-n", "40", "-i", "10ms", "--json", *few, place)
        done = paths.run("client", *ping)
        summary = json.loads(done.stdout.splitlines()[-1])
        assert summary["mptcp"] == {"connections": 1, "plain": 0, "subflows": 2}
        assert (done.returncode, done.stderr) == (0, "")
        # While a talk lasts, whose input does not end, the kernel shows its connections.
        talk = [*paths.on("client"), *command("talk", place)]
        with subprocess.Popen(talk, stdin=subprocess.PIPE, env=environment()) as talking:
            assert talking.stdin is not None
            talking.stdin.write(b"hello")
            talking.stdin.flush()
            show = ["ss", "--no-header", "--tcp", "state", "established", "dport", "8009"]
            wait_until(
                lambda: len(paths.run("client", *show).stdout.splitlines()) == 2,
                "there are no two subflows",
            )
            talking.stdin.close()
        wait_until(lambda: server.read_log().count("closed ") == 2, "both are over")
        assert server.read_log().count("protocol=mptcp subflows=2 ") == 2


@pytest.mark.parametrize("without", ["client", "server"])
def test_where_an_end_has_none_it_is_plain_tcp(paths: Network, without: str) -> None:
    """Both say so; a server that has none says what it listens on instead, and why."""
    assert paths.run(without, *OFF).returncode == 0
    with serving("mptcp://10.7.1.2:8009", prefix=paths.on("server")) as server:
        kind = "tcp" if without == "server" else "mptcp"
        assert str(server.endpoints[0]) == f"{kind}://10.7.1.2:8009"
        assert ("net.mptcp.enabled" in server.read_log()) == (without == "server")
        ping = command("ping", "-n", "1", "--fail-if", "subflows<1", "mptcp://10.7.1.2:8009")
        done = paths.run("client", *ping)
        assert "1 connection of plain TCP: MPTCP was not agreed on\n" in done.stdout
        assert done.returncode == 1
