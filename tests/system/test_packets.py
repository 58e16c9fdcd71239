"""The network between client and server: a router with an MTU, a filter, and a bottleneck.

The client is in a network of its own, from which a router leads to the server's. All of it ends
with the client's process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import attrs
import pytest

from helpers import PATIENCE, needs
from schemas import check_lines

NETWORK = """
set -e
mount -t tmpfs none /run
at_once='echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'  # or addresses are tentative
for each in router server; do
  ip netns add $each
  ip -n $each link set lo up
  ip netns exec $each sh -c "$at_once"
done
eval "$at_once"
ip link set lo up
ip link add eth0 type veth peer name near netns router
ip -n router link add far type veth peer name eth0 netns server
numbered() {
  device=$1 four=$2 six=$3
  shift 3
  ip "$@" address add $four dev $device
  ip "$@" address add $six dev $device
  ip "$@" link set $device up
}
numbered eth0 10.9.1.2/24 fd09:1::2/64
numbered near 10.9.1.1/24 fd09:1::1/64 -n router
numbered far 10.9.2.1/24 fd09:2::1/64 -n router
numbered eth0 10.9.2.2/24 fd09:2::2/64 -n server
for each in 10.9.1.1 fd09:1::1; do ip route add default via $each; done
for each in 10.9.2.1 fd09:2::1; do ip -n server route add default via $each; done
ip netns exec router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
for each in router server; do  # or they report but one thing a second
  ip netns exec $each sh -c 'echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
    echo 0 >/proc/sys/net/ipv6/icmp/ratelimit'
done
ip -n router route add unreachable 10.9.3.0/24
ip -n router route add unreachable fd09:3::/64
ip -n router route add prohibit 10.9.4.0/24
ip -n router route add prohibit fd09:4::/64
"""
"""Makes it: the client's network is the present one."""

SESSION = """
import json, socket, subprocess, sys


def is_reached(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        try:
            probe.connect((host, 9))
            probe.send(b"")
            probe.recv(1)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False


# What is sent first, before the hosts know each other, may be lost.
for each in ("10.9.2.2", "fd09:2::2"):
    while not is_reached(each):
        pass
techo = [sys.executable, "-m", "techo"]
places = ["udp://10.9.2.2:7000", "udp://[fd09:2::2]:7000", "tcp://10.9.2.2:7000"]
command = json.loads(sys.argv[1]) or [*techo, "-q", *places]
server = subprocess.Popen(["ip", "netns", "exec", "server", *command], stdout=subprocess.PIPE)
server.stdout.readline()
for command in json.loads(sys.argv[2]):
    command = command[1:] if command[0] == "exec" else [*techo, *command]
    done = subprocess.run(command, capture_output=True, text=True)
    print(json.dumps([done.returncode, done.stdout, done.stderr]))
server.terminate()
server.wait()
"""
"""Runs commands of techo or, behind `exec`, others, while a server is there."""


@attrs.frozen
class Done:
    """What a command has come to."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What it has printed for machines."""
        check_lines(self.out)
        return [json.loads(line) for line in self.out.splitlines()]


def behind_a_router(
    *commands: list[str], also: str = "", server: list[str] | None = None
) -> list[Done]:
    """Run commands, one after the other, where a router leads to the server."""
    for program in ("ip", "tc"):
        needs(program)
    arguments = [json.dumps(server), json.dumps(commands)]
    done = subprocess.run(
        [
            *[needs("unshare"), "--user", "--map-root-user", "--net", "--mount"],
            *["sh", "-c", f'{NETWORK}{also}\nexec "$@"', "sh"],
            *[sys.executable, "-c", SESSION, *arguments],
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


NARROW = """
ip -n router link set far mtu 1300
ip -n server link set eth0 mtu 1300
"""


@pytest.mark.parametrize(
    ("host", "router", "largest"),
    [("10.9.2.2", "10.9.1.1", 1272), ("[fd09:2::2]", "fd09:1::1", 1252)],
)
def test_the_mtu_of_the_way_and_who_limits_it(host: str, router: str, largest: int) -> None:
    """The kernel has learned the same; the next ping knows it from there."""
    sweep = ["-i", "10ms", "-s", "1200-1500/4", "--dont-fragment", f"udp://{host}:7000"]
    first, route, second = behind_a_router(
        ["ping", "--json", *sweep],
        ["exec", "ip", "route", "get", host.strip("[]")],
        ["ping", "-q", *sweep],
        also=NARROW,
    )
    summary = first.objects[-1]
    assert summary["path_mtu"] == {"mtu_bytes": 1300, "reported_by": router}
    assert (summary["largest_bytes"], summary["received"]) == (largest, (largest - 1196) // 4)
    assert summary["failures"] == {"too-large": 76 - summary["received"]}
    reasons = [each["reason"] for each in first.objects if each["event"] == "failure"]
    assert reasons[0] == f"too large for {router}, whose MTU is 1300 bytes"
    assert " mtu 1300" in route.out
    assert "the way takes packets of 1,300 bytes, as was known here" in second.out
    assert (first.code, second.code) == (0, 0)


@pytest.mark.parametrize("kind", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("version", ["4", "6"])
def test_who_has_stopped_a_packet_is_named(kind: str, version: str) -> None:
    """It is the router, or the server's machine, whatever the kind of endpoint."""
    net, router = {
        "4": ("10.9.{}.{}", "10.9.1.1"),
        "6": ("[fd09:{}::{}]", "fd09:1::1"),
    }[version]
    once = ["ping", "-n", "1", f"-{version}"]
    unreachable, prohibited, expired, refused = behind_a_router(
        [*once, f"{kind}://{net.format(3, 1)}:9"],
        [*once, f"{kind}://{net.format(4, 1)}:9"],
        [*once, "--ttl", "1", f"{kind}://{net.format(2, 2)}:9"],
        [*once, f"{kind}://{net.format(2, 2)}:9"],
    )
    words = "no route to host" if version == "4" else "network is unreachable"
    assert f": seq=1 unreachable ({words}, says {router})\n" in unreachable.out
    assert f": seq=1 unreachable (prohibited by a filter, says {router})\n" in prohibited.out
    assert f": seq=1 ttl-exceeded (its TTL ran out at {router})\n" in expired.out
    assert ": seq=1 refused (connection refused" in refused.out
    by = net.format(2, 2).strip("[]")  # over TCP it refuses by itself, and not by ICMP
    assert (f"connection refused by {by}" in refused.out) == (kind == "udp")
    assert {each.code for each in (unreachable, prohibited, expired, refused)} == {2}
    assert "raise --ttl" in expired.err


def test_the_other_commands_name_it_too() -> None:
    """Load for each cause; talk and check in the line that says why they could not begin."""
    load, talk, check = behind_a_router(
        [
            "load",
            "--json",
            "-n",
            "3",
            "-c",
            "1",
            "-W",
            "300ms",
            "--ttl",
            "1",
            "udp://10.9.2.2:9",
        ],
        ["talk", "10.9.4.1:9"],
        ["check", "10.9.3.1:9"],
    )
    assert load.objects[-1]["reasons"]["ttl-exceeded"] == "its TTL ran out at 10.9.1.1"
    assert ": prohibited by a filter, says 10.9.1.1; check the address" in talk.err
    assert ": no route to host, says 10.9.1.1; check the address" in check.err
    assert (talk.code, check.code) == (2, 2)


MIRROR = """
import socket
with socket.socket(type=socket.SOCK_DGRAM) as sock:
    sock.bind(("10.9.2.2", 7000))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 120)
    print("ready", flush=True)
    while True:
        data, ancillary, _, address = sock.recvmsg(100, 100)
        assert address == ("10.9.1.2", 7777)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ancillary[0][2][0] | 1)
        sock.sendto(data, address)
"""
"""Answers with the class of service that it was asked with, and a congested network's ECN."""


def test_packets_leave_as_one_has_asked_and_replies_are_shown_as_they_came() -> None:
    """The class of service, the port and the TTL, of which one router has taken one."""
    options = ["--source", "10.9.1.2:7777", "--interface", "eth0", "--dscp", "AF41"]
    text, machine = behind_a_router(
        ["ping", "-v", "-n", "2", "-i", "10ms", *options, "udp://10.9.2.2:7000"],
        ["ping", "--json", "-n", "1", *options, "udp://10.9.2.2:7000"],
        server=[sys.executable, "-c", MIRROR],
    )
    assert text.out.count(" ttl=119 hops=9 dscp=AF41 ecn=ECT(1)\n") == 2
    reply = machine.objects[0]
    assert (reply["ttl"], reply["hops"], reply["dscp"], reply["ecn"]) == (119, 9, 34, 1)


def test_a_bottleneck_shows_as_loss_and_latency_and_is_not_our_own() -> None:
    """A router that passes 2 Mbit/s is asked for 8: it holds packets up, and drops the rest."""
    quick = ["ping", "--json", "-i", "1ms", "-n", "300", "-s", "1000", "udp://10.9.2.2:7000"]
    slow = "tc -n router qdisc add dev far root tbf rate 2mbit burst 4k latency 40ms"
    (free,) = behind_a_router(quick)
    (narrow,) = behind_a_router(quick, also=slow)
    before, after = free.objects[-1], narrow.objects[-1]
    assert before["lost"] == 0
    assert after["failures"].keys() == {"timeout-reply"}
    assert after["loss_percent"] > 30
    assert after["dropped_here"] == 0
    # What it holds up most is the queue's 40 ms, and what is behind it does not wait longer.
    assert 30_000_000 < after["latency_ns"]["max"] < 200_000_000
