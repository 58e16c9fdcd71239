"""ping over ICMP: the kernel's own echo, both kinds of socket, and replies that are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers import command, needs
from networks import HOSTS, NO_RAW, Network, environment, joined, network


def allow(hosts: Network) -> None:
    """Let our group open datagram sockets of ICMP."""
    setting = "net.ipv4.ping_group_range=0 0"
    done = hosts.run("client", "sysctl", "--quiet", "--write", setting)
    assert done.returncode == 0, done.stderr


def ping(hosts: Network, *arguments: str, denied: bool = False) -> tuple[int, str, list[Any]]:
    """Ping on the client; return the exit status, standard error and the objects."""
    prefix = NO_RAW if denied else []
    done = hosts.run("client", *prefix, *command("ping", "--json", *arguments))
    return done.returncode, done.stderr, [json.loads(each) for each in done.stdout.splitlines()]


def counters(hosts: Network, host: str, version: int) -> tuple[int, int]:
    """Return what the kernel has counted: echo requests and replies that came in."""
    if version == 4:
        names, values = (
            line.split()
            for line in hosts.run(host, "cat", "/proc/net/snmp").stdout.splitlines()
            if line.startswith("Icmp:")
        )
        found = dict(zip(names, values, strict=True))
        return int(found["InEchos"]), int(found["InEchoReps"])
    lines = hosts.run(host, "cat", "/proc/net/snmp6").stdout.splitlines()
    found = dict(line.split() for line in lines)
    return int(found["Icmp6InEchos"]), int(found["Icmp6InEchoReplies"])


@pytest.mark.parametrize("version", HOSTS)
@pytest.mark.parametrize("raw", [True, False])
def test_the_kernel_s_echo_is_verified(hosts: Network, version: int, *, raw: bool) -> None:
    """By a raw socket, or by a datagram socket without privileges; the kernel counts alike."""
    if not raw:
        allow(hosts)
    before = counters(hosts, "server", version)[0], counters(hosts, "client", version)[1]
    code, err, seen = ping(
        hosts, "-i", "10ms", "-s", "1-1401/100", f"icmp://{HOSTS[version]}", denied=not raw
    )
    after = counters(hosts, "server", version)[0], counters(hosts, "client", version)[1]
    assert (code, err) == (0, "")
    summary = seen[-1]
    assert (summary["received"], summary["largest_bytes"]) == (15, 1401)
    assert (summary["lost"], summary["stray"], summary["duplicate"]) == (0, 0, 0)
    assert [now - then for then, now in zip(before, after, strict=True)] == [15, 15]


@pytest.mark.parametrize(("version", "largest"), [(4, 65_507), (6, 65_527)])
def test_the_largest_comes_back_whole(hosts: Network, version: int, largest: int) -> None:
    """In fragments; one byte more is refused, with the limit."""
    place = f"icmp://{HOSTS[version]}"
    code, _, seen = ping(hosts, "-n", "1", "-s", str(largest), place)
    assert (code, seen[-1]["largest_bytes"]) == (0, largest)
    code, err, _ = ping(hosts, "-n", "1", "-s", str(largest + 1), place)
    assert code == 2
    assert f"{largest} is the most here" in err


def test_without_permission_there_is_a_remedy(hosts: Network) -> None:
    """Before anything is sent, and not once for each probe."""
    code, err, seen = ping(hosts, "icmp://10.7.1.2", denied=True)
    assert (code, seen) == (2, [])
    assert err == (
        "techo: ICMP takes privileges; run as root, or with CAP_NET_RAW, or let a group of "
        "yours in (sysctl net.ipv4.ping_group_range)\n"
    )


@pytest.mark.parametrize("raw", [True, False])
def test_replies_to_others_are_not_counted(hosts: Network, *, raw: bool) -> None:
    """While fping pings the same host, whose replies a raw socket hears, too."""
    if not raw:
        allow(hosts)
    others = [needs("fping"), "-q", "-c", "40", "-p", "10", "10.7.1.2"]
    with subprocess.Popen(
        [*hosts.on("client"), *others], stderr=subprocess.PIPE, env=environment()
    ) as fping:
        code, _, seen = ping(hosts, "-n", "20", "-i", "10ms", "icmp://10.7.1.2")
        assert fping.stderr is not None
        assert b"40/40/0%" in fping.stderr.read()
    assert code == 0
    assert (seen[-1]["received"], seen[-1]["stray"], seen[-1]["duplicate"]) == (20, 0, 0)


@pytest.mark.parametrize("raw", [True, False])
def test_replies_that_are_not_right_are_told_apart(hosts: Network, *, raw: bool) -> None:
    """By a responder in the kernel's place: what came, and what each probe was lost for."""
    if not raw:
        allow(hosts)
    quiet = ("sysctl", "--quiet", "--write", "net.ipv4.icmp_echo_ignore_all=1")
    assert hosts.run("server", *quiet).returncode == 0
    ways = ["whole", "truncated", "harmed", "duplicate", "late", "foreign", "wrong-checksum"]
    script = [sys.executable, str(Path(__file__).parent / "responder.py"), "0.6", *ways]
    with subprocess.Popen(
        [*hosts.on("server"), *script], stdout=subprocess.PIPE, env=environment()
    ) as responder:
        assert responder.stdout is not None
        assert responder.stdout.readline() == b"ready\n"
        arguments = ["-n", "7", "-i", "200ms", "-W", "400ms", "icmp://10.7.1.2"]
        code, _, seen = ping(hosts, *arguments)
    assert code == 0
    failures = {each["seq"]: each["cause"] for each in seen if each["event"] == "failure"}
    assert failures == {
        2: "short",
        3: "corrupt",
        5: "timeout-reply",
        7: "timeout-reply",  # a harmed packet has not arrived
    }
    replies = [each for each in seen if each["event"] == "reply"]
    assert [each["seq"] for each in replies if each["duplicate"]] == [4]
    assert [each["seq"] for each in replies if each["late"]] == [5]
    summary = seen[-1]
    assert (summary["received"], summary["lost"], summary["corrupt"]) == (4, 3, 1)
    assert summary["stray"] == 1  # somebody else's is not even heard


def test_the_kernel_times_it(hosts: Network) -> None:
    """Both kinds of socket have stamps, and each reply is as long as its clock says."""
    for raw in (True, False):
        if not raw:
            allow(hosts)
        for host in HOSTS.values():
            arguments = ["-n", "3", "-i", "10ms", "--clock", "kernel", f"icmp://{host}"]
            code, err, seen = ping(hosts, *arguments)
            assert (code, err) == (0, "")
            assert [each["clock"] for each in seen[:-1]] == ["kernel"] * 3


ROUTED = """
ip netns exec router sysctl -qw net.ipv4.ip_forward=1
ip -n client route add default via 10.7.1.2
ip -n server route add default via 10.7.2.1
"""


@pytest.mark.parametrize("raw", [True, False])
def test_what_a_router_reports_is_the_cause(*, raw: bool) -> None:
    """That a TTL ran out, and that there is no way, with the router's address."""
    wires = joined("client", "router", 1), joined("router", "server", 2)
    with network(["client", "router", "server"], *wires, ROUTED) as routed:
        if not raw:
            allow(routed)
        expected = {
            ("--ttl", "1", "icmp://10.7.2.2"): ("ttl-exceeded", "its TTL ran out at 10.7.1.2"),
            ("icmp://10.9.9.9",): ("unreachable", "network is unreachable, says 10.7.1.2"),
        }
        for arguments, (cause, reason) in expected.items():
            code, _, seen = ping(routed, "-n", "1", "-W", "30s", *arguments)
            assert code == 2
            assert (seen[0]["cause"], seen[0]["reason"]) == (cause, reason)
