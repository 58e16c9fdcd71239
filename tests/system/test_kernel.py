"""What the kernel tells ping agrees with what other programs are told by it."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import techo
from helpers import PATIENCE, command, needs

NEAR_NS = 15_000
"""By how much two stamps of the same packet may differ, between which nothing is waited for."""


def in_a_network_of_its_own(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as root of an own network, with words to be run by it."""
    unshare = [needs("unshare"), "--user", "--net", "--map-root-user"]
    path = [str(Path(techo.__file__).parent.parent), str(Path(__file__).parent.parent)]
    return subprocess.run(
        [*unshare, "sh", "-ec", script, "sh", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*path, *sys.path])},
    )


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_the_kernel_s_clock_agrees_with_a_packet_socket_s_stamps(kind: str) -> None:
    """Of each probe, but for those between whose stamps the machine was interrupted."""
    needs("ip")
    program = str(Path(__file__).parent / "packet_stamps.py")
    script = 'ip link set lo up; exec "$@"'
    done = in_a_network_of_its_own(script, sys.executable, program, kind)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    differences = [abs(each) for each in found["differences_ns"]]
    assert len(differences) >= 0.9 * found["probes"] == 90
    assert statistics.median(differences) <= NEAR_NS
    assert sum(each <= NEAR_NS for each in differences) >= 0.9 * len(differences)


async def test_tcp_info_agrees_with_ss() -> None:
    """Of a connection over which nothing is in flight any more, but that is still there."""
    ss = needs("ss")
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        port = server.endpoints[0].port
        ping = techo.ping(server.endpoints[0], count=20, interval=0.01, timeout=PATIENCE)
        async with ping:
            with trio.fail_after(PATIENCE):
                assert len([each async for each in ping]) == 20
                # Until both have looked while nothing has changed.
                while True:
                    before = ping.statistics()
                    words = [ss, "-tinH", "dst", f"127.0.0.1:{port}"]
                    shown = (await trio.run_process(words, capture_stdout=True)).stdout.decode()
                    if before.tcp == ping.statistics().tcp:
                        break
    info = before.tcp
    assert info is not None

    def said(pattern: str) -> float:
        found = re.search(pattern, shown)
        return float(found[1]) if found else 0.0

    assert said(r" rtt:([\d.]+)/") * 1e6 == info.rtt_ns
    assert said(r" rtt:[\d.]+/([\d.]+)") * 1e6 == info.rttvar_ns
    assert said(r" minrtt:([\d.]+)") * 1e6 == pytest.approx(info.min_rtt_ns)
    assert said(r" cwnd:(\d+)") == info.congestion_window
    assert said(r" delivery_rate (\d+)bps") == 8 * (info.delivery_bytes_per_second or 0)
    assert said(r" retrans:\d+/(\d+)") == info.retransmits
    assert said(r" lost:(\d+)") == info.lost
    assert said(r" reord_seen:(\d+)") == info.reorderings


def test_a_way_that_loses_packets_is_found_by_a_rule() -> None:
    """Where a queue is too short for a message, TCP sends again, and ping says how often."""
    needs("ip")
    needs("tc")
    script = """
    ip link set lo mtu 1500 up
    tc qdisc add dev lo root tbf rate 8mbit burst 2kb limit 6kb
    exec "$@"
    """
    code = """
import subprocess, sys
techo = sys.argv[1:]
server = [*techo, "serve", "--reply", "raw", "tcp://127.0.0.1:0"]
with subprocess.Popen(server, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as serving:
    endpoint = serving.stdout.readline().decode().split()[-1]
    words = ["ping", "-n", "3", "-i", "10ms", "-s", "30000", "-W", "60s", "-q"]
    code = subprocess.run([*techo, *words, "--fail-if", "retransmits>0", endpoint]).returncode
    serving.terminate()
sys.exit(code)
"""
    done = in_a_network_of_its_own(script, sys.executable, "-c", code, *command())
    assert done.returncode == 1, done.stderr
    shown = re.search(r"(\d+) resent,", " ".join(done.stdout.split()))
    assert shown is not None, done.stdout
    assert int(shown[1]) > 0
    assert f"retransmits>0: retransmits was {shown[1]}" in done.stderr
