"""Socket options: what is refused by its name, and what the system then knows of a socket."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import techo
from helpers import call
from techo._kernel.dscp import name_of_dscp, read_dscp
from techo._kernel.options import SocketOptionError, SocketOptions


@pytest.mark.parametrize(
    ("text", "number", "name"),
    [
        ("EF", 46, "EF"),
        ("af41", 34, "AF41"),
        ("0", 0, "DF"),
        ("CS7", 56, "CS7"),
        ("63", 63, "63"),
    ],
)
def test_a_class_of_service_is_a_number_or_a_name(text: str, number: int, name: str) -> None:
    """Names are those of the RFCs, in any case; what has no name stays a number."""
    assert read_dscp(text) == number
    assert name_of_dscp(number) == name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": "localhost"}, "source 'localhost' is no IP address"),
        ({"ip_version": 5}, "ip_version 5 is neither 4, nor 6, nor None"),
        ({"ip_version": 4, "source": "::1"}, "ip_version 4: source ::1 is IPv6"),
        ({"dscp": 64}, "dscp '64' is not a number from 0 to 63, nor a name such as EF"),
        ({"dscp": "EFF"}, "dscp 'EFF' is not a number from 0 to 63; did you mean EF"),
        ({"ttl": 0}, "ttl 0 is not a whole number from 1 to 255, or None"),
        ({"interface": ""}, "interface '' is not the name of a network interface"),
        ({"source_port": 65536}, "source_port 65536 is not a whole number from 0 to 65535"),
        ({"send_buffer": "1k"}, "send_buffer '1k' is not a whole number from 1 to 2147483647"),
        ({"receive_buffer": 2**40}, "receive_buffer .* is not a whole number from 1 to 21474"),
        ({"dont_fragment": 1}, "dont_fragment 1 is not true or false"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(values: dict[str, Any], words: str) -> None:
    """The text has its name, its value and what would be right."""
    with pytest.raises(ValueError, match=words):
        SocketOptions(**values)


@pytest.mark.parametrize(
    ("options", "target", "connections", "words"),
    [
        (SocketOptions(dscp=0), "unix:/x", 1, "dscp 0: unix:/x has no IP packets"),
        (SocketOptions(ttl=9), None, 1, "ttl 9: a function that connects makes its own"),
        (SocketOptions(ip_version=4), "udp://[::1]:9", 1, r"ip_version 4: .* is IPv6"),
        (SocketOptions("::1"), "127.0.0.1:9", 1, "source '::1': tcp://127.0.0.1:9 is IPv4"),
        (SocketOptions(source_port=9), "8009", 2, "source_port 9: a port is for one connec"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: SocketOptions, target: str | None, connections: int, words: str
) -> None:
    """The text has the first that does not, and why."""
    with pytest.raises(ValueError, match=words):
        options.check(None if target is None else techo.Endpoint.parse(target), connections)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_the_system_has_what_was_asked_for(family: int, kind: int) -> None:
    """Of both versions of IP, as getsockopt(2) says."""
    six = family == socket.AF_INET6
    options = SocketOptions(
        "::1" if six else "127.0.0.1", dscp="AF11", ttl=7, dont_fragment=True, interface="lo"
    )
    level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
    with options.open(family, kind) as sock:
        assert sock.getsockname()[0] == options.source
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b"lo\0"
        assert sock.getsockopt(level, socket.IPV6_TCLASS if six else socket.IP_TOS) == 10 << 2
        assert sock.getsockopt(level, socket.IPV6_UNICAST_HOPS if six else socket.IP_TTL) == 7
        assert sock.getsockopt(level, 23 if six else 10) == 2  # ..._MTU_DISCOVER, ..._DO


@pytest.mark.parametrize(
    ("options", "words", "remedy"),
    [
        (
            SocketOptions("192.0.2.9"),
            "source 192.0.2.9 is no address of this",
            "see ip address",
        ),
        (SocketOptions(interface="none"), "there is no interface 'none'", "there are lo"),
    ],
)
def test_what_this_machine_cannot_do_is_said_with_the_remedy(
    options: SocketOptions, words: str, remedy: str
) -> None:
    """It is this machine's fault and no server's."""
    with pytest.raises(SocketOptionError) as caught:
        options.open(socket.AF_INET, socket.SOCK_STREAM)
    assert str(caught.value.strerror).startswith(words)
    assert caught.value.remedy.startswith(remedy)


async def test_a_port_to_connect_from_can_be_used_again() -> None:
    """Right after the connection that had it, whose end keeps it for a minute."""
    with socket.create_server(("127.0.0.2", 0)) as sock:
        port = sock.getsockname()[1]
    options = SocketOptions("127.0.0.1", source_port=port)
    async with techo.open_server("tcp://127.0.0.2:0") as server:
        for _ in range(2):
            async with techo.open_client(server.endpoints[0], options=options) as client:
                await client.round_trip(b"hello")


@pytest.mark.parametrize("command", ["ping", "load", "talk", "check"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dscp", "EF", "unix:/x"], "--dscp: unix:/x has no IP packets"),
        (["-4", "udp://[::1]:9"], "-4: udp://[::1]:9 is IPv6"),
        (["-6", "--source", "127.0.0.1", "9"], "-6: source 127.0.0.1 is IPv4"),
        (["--source", "192.0.2.9", "9"], "source 192.0.2.9 is no address of this machine; see"),
        (
            ["--source", "::1:9", "9"],
            "argument --source: '::1:9' is ambiguous; write [::1:9], or",
        ),
        (["--source", "host", "9"], "argument --source: 'host' is not an address of this mach"),
        (["--source", "127.0.0.1:x"], "argument --source: '127.0.0.1:x': port 'x' is not from"),
        (
            ["--source", "[127.0.0.1]"],
            "argument --source: '[127.0.0.1]': brackets are for IPv6",
        ),
    ],
)
def test_every_client_refuses_what_does_not_fit(
    command: str, arguments: list[str], words: str
) -> None:
    """In one line that has the option's name, before anything is tried."""
    code, out, err = call(command, *arguments)
    assert (code, out) == (2, b"")
    assert err.partition(": ")[2].startswith(words)


@pytest.mark.parametrize("command", ["load", "check"])
def test_many_connections_cannot_share_a_port(command: str) -> None:
    """Those that make many refuse it."""
    code, _, err = call(command, "--source", "127.0.0.1:7000", "--connections", "3", "9")
    assert code == 2
    assert "--source: a port is for one connection, and 3 are wanted" in err


def test_what_only_the_environment_asks_for_is_ignored_where_it_makes_no_sense() -> None:
    """One who sets a class of service for all commands may also talk over a Unix socket."""
    code, _, err = call("ping", "-n", "1", "unix:@nobody", environment={"TECHO_DSCP": "EF"})
    assert code == 2
    assert "was never reached (refused 1)" in err
