"""Latency under load, through a real bottleneck."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from helpers import PATIENCE, command, needs
from networks import Network, environment

BYTES_PER_SECOND = 500_000
"""What the bottleneck passes."""
CONNECTIONS, SIZE = 4, 16_384
"""Of the load: so many messages of so many bytes are in flight all the time."""
QUEUE_NS = 10**9 * CONNECTIONS * SIZE / BYTES_PER_SECOND
"""How long the bottleneck needs for these: 131 ms."""


def make_narrow(hosts: Network, host: str) -> None:
    """Let a host's wire pass little, with room for a queue."""
    narrow = ["tbf", "rate", f"{8 * BYTES_PER_SECOND}bit", "burst", "4k", "limit", "1m"]
    made = hosts.run(host, "tc", "qdisc", "add", "dev", "v1", "root", *narrow)
    assert made.returncode == 0, made.stderr


def loaded_and_pinged(hosts: Network) -> tuple[dict[str, Any], dict[str, Any]]:
    """The summaries of a load with a probe, and of a ping that a load accompanies."""
    serve = [*hosts.on("server"), *command("serve", "-q", "--reply", "raw", "10.7.1.2:7000")]
    load = ["load", "--json", "-c", str(CONNECTIONS), "-s", str(SIZE), "-d", "4"]
    # So few that two are never in flight: TCP holds back a third as long as there are two in
    # this machine's own queue. Only its own clock shows ping that.
    ping = ["ping", "--json", "--clock", "user", "-i", "250ms", "-n", "12", "-W", "10s"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, env=environment()) as serving:
        try:
            assert serving.stdout is not None
            assert serving.stdout.readline().startswith(b"listening on ")
            with subprocess.Popen(
                [*hosts.on("client"), *command(*load, "--probe", "20", "10.7.1.2:7000")],
                stdout=subprocess.PIPE,
                env=environment(),
            ) as loading:
                out, _ = loading.communicate(timeout=PATIENCE)
            with subprocess.Popen(
                [*hosts.on("client"), *command(*load, "10.7.1.2:7000")],
                stdout=subprocess.PIPE,
                env=environment(),
            ) as loading:
                pinged = hosts.run("client", *command(*ping, "10.7.1.2:7000"))
                loading.communicate(timeout=PATIENCE)
        finally:
            serving.terminate()
    return json.loads(out.splitlines()[-1]), json.loads(pinged.stdout.splitlines()[-1])


@pytest.mark.parametrize("host", ["client", "server"])
def test_a_bottleneck_s_queue_is_seen_under_load_and_not_idle(
    host: str, hosts: Network
) -> None:
    """On the way there, where it is this machine's own, as on the way back."""
    needs("tc")
    make_narrow(hosts, host)
    summary, ping = loaded_and_pinged(hosts)
    probe = summary["probe"]
    assert summary["lost"] == probe["loaded"]["lost"] == 0
    loaded, idle = (probe[name]["latency_ns"]["p50"] for name in ("loaded", "idle"))
    assert QUEUE_NS / 2 < loaded < 2 * QUEUE_NS
    assert idle < QUEUE_NS / 4
    assert probe["after"]["latency_ns"]["p50"] < QUEUE_NS / 2
    assert probe["growth_ns"] == loaded - idle
    assert probe["slowdown"] > 2
    minute = 60 * 10**9
    assert minute / 2 / QUEUE_NS < probe["round_trips_per_minute"] < 2 * minute / QUEUE_NS
    assert probe["samples"]["kernel"] > probe["samples"]["user"]
    assert loaded / 2 < ping["latency_ns"]["p50"] < 2 * loaded
