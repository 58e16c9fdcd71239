"""Packets of a protocol of their own: served, pinged and, by others, thrown at the server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers import Process, command, needs, serving, wait_until
from networks import HOSTS, NO_RAW, Network


def ping(hosts: Network, host: str, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Ping from a host; return the exit status, standard error and the summary."""
    done = hosts.run(host, *command("ping", "--json", *arguments))
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, done.stderr, objects[-1] if objects else {}


def datagrams(server: Process) -> dict[str, Any]:
    """Return what a server has counted of datagrams, without reasons that have no count."""
    found: dict[str, Any] = server.statistics()["datagrams"]
    return found | {"dropped": {each: n for each, n in found["dropped"].items() if n}}


@pytest.mark.parametrize(("version", "largest"), [(4, 65_515), (6, 65_535)])
def test_both_ends_of_all_sizes(hosts: Network, version: int, largest: int) -> None:
    """The server echoes payloads, and nothing of headers; the largest fills a packet."""
    place = f"ip://{HOSTS[version]}/253"
    with serving("--reply", "raw", place, prefix=hosts.on("server")) as server:
        assert str(server.endpoints[0]) == place
        code, err, seen = ping(hosts, "client", "-i", "10ms", "-s", "1-1401/100", place)
        assert (code, err, seen["received"]) == (0, "", 15)
        assert (seen["stray"], seen["address"]) == (0, HOSTS[version].strip("[]"))
        code, _, seen = ping(hosts, "client", "-n", "1", "-s", str(largest), place)
        assert (code, seen["largest_bytes"]) == (0, largest)
        code, err, _ = ping(hosts, "client", "-n", "1", "-s", str(largest + 1), place)
        assert code == 2
        assert f"{largest} is the most here" in err
        assert datagrams(server)["received"] == datagrams(server)["echoed"] == 16


def test_on_one_machine_the_client_takes_another_address(hosts: Network) -> None:
    """Request and reply look alike, and each end hears all that is sent to its address."""
    places = ["ip://127.0.0.1/253", "ip://10.7.1.2/254"]
    with serving(*places, sockets=2, prefix=hosts.on("server")) as server:
        for place in places:
            code, err, seen = ping(hosts, "server", "-n", "3", "-i", "10ms", place)
            assert (code, err, seen["received"], seen["stray"]) == (0, "", 3, 0)
        counted = datagrams(server)
        assert (counted["received"], counted["echoed"], counted["dropped"]) == (6, 6, {})


def test_ipv6_has_no_other_address_unless_one_is_given(hosts: Network) -> None:
    """That is refused with the remedy, which works."""
    with serving("ip://[::1]/253", prefix=hosts.on("server")):
        code, err, _ = ping(hosts, "server", "ip://[::1]/253")
        assert code == 2
        assert err == (
            "techo: a raw socket of ::1 hears its own packets; take IPv4, or another address "
            "of this machine by --source\n"
        )
        source = ["--source", "[fd07:1::2]"]
        code, _, seen = ping(hosts, "server", "-n", "1", *source, "ip://[::1]/253")
        assert (code, seen["received"]) == (0, 1)


def test_hping3_is_answered_and_a_forger_is_a_loop(hosts: Network) -> None:
    """What comes from the server's own addresses, on any of its sockets, is not answered."""
    send = [needs("hping3"), "--rawip", "--ipproto", "253", "--interval", "u10000"]
    places = ["ip://10.7.1.2/253", "ip://127.0.0.1/253"]
    with serving("--reply", "raw", *places, sockets=2, prefix=hosts.on("server")) as server:
        hosts.run("client", *send, "--count", "3", "--data", "120", "10.7.1.2")
        wait_until(lambda: datagrams(server)["received"] == 3, "three packets come")
        assert datagrams(server) == {
            "received": 3,
            "echoed": 3,
            "dropped": {},
            "received_bytes": 360,
            "sent_bytes": 360,
            "dropped_here": 0,
        }
        # From the socket's own address, and from that of the other one.
        for forged in ("10.7.1.2", "127.0.0.1"):
            spoof = ["--spoof", forged, "--count", "2"]
            hosts.run("server", *send, *spoof, "--data", "10", "10.7.1.2")
        wait_until(lambda: datagrams(server)["received"] >= 7, "forged ones come")
        counted = datagrams(server)
        assert (counted["echoed"], counted["dropped"]) == (3, {"loop": 4})


def test_where_nobody_has_the_protocol_it_is_refused(hosts: Network) -> None:
    """The kernel says so, as of a port."""
    for host in HOSTS.values():
        code, err, seen = ping(hosts, "client", "-n", "1", "-W", "30s", f"ip://{host}/253")
        assert (code, seen["failures"]) == (2, {"refused": 1})
        assert "start a server there" in err


def test_privileges_that_lack_are_named(hosts: Network) -> None:
    """By both ends, before anything is done."""
    place = "ip://10.7.1.2/253"
    needed = "raw sockets take privileges"
    done = hosts.run("server", *NO_RAW, *command("serve", place))
    assert done.returncode == 2
    assert f"{needed}: run as root, or with CAP_NET_RAW" in done.stderr
    done = hosts.run("client", *NO_RAW, *command("ping", place))
    assert done.returncode == 2
    assert done.stderr == f"techo: {needed}; run as root, or with CAP_NET_RAW\n"


def test_any_protocol_and_faults(hosts: Network) -> None:
    """Another protocol takes the option at both ends; faults are those of datagrams."""
    place = "ip://10.7.1.2/99"
    options = ["--any-protocol", "--fault", "duplicate=100%"]
    with serving(*options, place, prefix=hosts.on("server")):
        count = ["-n", "3", "-i", "10ms"]
        code, _, seen = ping(hosts, "client", "--any-protocol", *count, place)
        assert (code, seen["received"]) == (0, 3)
        assert seen["duplicate"] >= 2  # the last may come when it is all over
