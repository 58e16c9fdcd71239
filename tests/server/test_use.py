"""What people meet first: reprs in a failing assertion, and values of another kind."""

from __future__ import annotations

import functools
import socket
import types
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from techo._addresses import network_of, peer_host
from techo._server.connection import Peer
from techo.testing import Delay, open_memory_server


async def test_reprs_are_short_and_without_zeros(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """They name what has happened, and nothing that has not."""
    service = techo.EchoService(techo.raw)
    assert repr(service.statistics()) == "Statistics()"
    assert repr(service) == "EchoService(raw, Statistics())"
    async with open_memory_server(reply=techo.raw) as server:
        stream = await server.connect()
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert repr(server.statistics()) == (
            "Statistics(accepted=1, outcomes={eof: 1}, chunks=1, bytes_in=5, bytes_out=5)"
        )
    async with techo.open_server("udp://127.0.0.1:0") as server:
        endpoint = server.endpoints[0]
        assert repr(server) == f"EchoService(stamped, {endpoint}, Statistics())"
        async with techo.open_client(endpoint) as client:
            await client.round_trip(b"x")
        datagrams = "DatagramStatistics(received=1, echoed=1, bytes_in=1, bytes_out=28)"
        assert repr(server.statistics()) == f"Statistics(datagrams={datagrams})"


async def test_a_server_at_one_place_has_its_endpoint_and_port(tmp_path: Path) -> None:
    """Otherwise the error says how many there are, or that there is no port."""
    path = tmp_path / "s"
    service = techo.EchoService()
    with pytest.raises(ValueError, match="nothing is listened on now"):
        _ = service.endpoint
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        assert server.endpoint == server.endpoints[0]
        assert server.port == server.endpoints[0].port > 0
    async with techo.open_server("tcp://127.0.0.1:0", f"unix:{path}") as server:
        with pytest.raises(ValueError, match=r"there are 2 endpoints: take one of tcp://"):
            _ = server.port
    async with techo.open_server(f"unix:{path}") as server:
        assert server.endpoint.path == str(path)
        with pytest.raises(ValueError, match=f"unix:{path} has no port"):
            _ = server.port


async def wait(chunk: bytes) -> bytes:
    """Reply as no reply function can."""
    await trio.lowlevel.checkpoint()
    return chunk


class Waits:
    """The same as an object."""

    async def __call__(self, chunk: bytes) -> bytes:
        """Reply so."""
        return await wait(chunk)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reply": "raw"}, "reply 'raw' is not a plain function from bytes to bytes"),
        ({"reply": wait}, "is not a plain function from bytes to bytes, such as techo.raw"),
        ({"reply": Waits()}, "is not a plain function"),
        ({"reply": functools.partial(wait)}, "is not a plain function"),
        ({"reply": None}, "reply None is not"),
        ({"limits": 5}, "limits 5 is not of techo.Limits"),
        ({"tls": "cert.pem"}, "tls 'cert.pem' is not an ssl.SSLContext, or None"),
        ({"faults": Delay(1)}, "is not a list of faults of techo.testing"),
        ({"faults": ["delay=1"]}, "is not only faults of techo.testing, such as Reset"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_name(
    values: dict[str, Any], words: str
) -> None:
    """When the service is made, and not at the first connection."""
    with pytest.raises(ValueError, match="is not") as caught:
        techo.EchoService(**values)
    assert words in str(caught.value)


@pytest.mark.parametrize("place", [8009, None, b"8009", ("127.0.0.1", 8009)])
async def test_what_is_no_place_to_listen_is_refused(place: Any) -> None:
    """A number is shown as the text that would do."""
    with pytest.raises(ValueError, match="is not an endpoint") as caught:
        async with techo.open_server(place):
            raise AssertionError("it can't be listening")
    assert ("write '8009'" in str(caught.value)) == (place == 8009)


def test_any_plain_callable_is_a_reply() -> None:
    """It may be a method, a class or a partial one."""
    for reply in (bytes.upper, bytes, functools.partial(bytes.replace), lambda chunk: chunk):
        techo.EchoService(reply)


@pytest.mark.parametrize(
    ("host", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff:0:0:2", "2001:db8:0:1::1"),
        ("fe80::1%eth0", "fe80::2%eth0", "fe80::1%eth1"),
        ("unix", "unix", "unix2"),
        ("a:b", "a:b", "a:c"),
    ],
)
def test_a_host_is_an_address_or_a_network(host: str, same: str, other: str) -> None:
    """Who has one IPv6 address has its /64."""
    assert network_of(host) == network_of(same)
    assert network_of(host) != network_of(other)


def test_a_link_local_peer_is_known_by_its_interface_too() -> None:
    """The system has the zone apart from the address, as a number."""
    index, name = socket.if_nameindex()[0]
    others = 2**31 - 1  # which no interface has
    assert peer_host(("fe80::1", 7, 0, index)) == f"fe80::1%{name}"
    assert peer_host(("fe80::1", 7, 0, others)) == f"fe80::1%{others}"
    assert peer_host(("::ffff:192.0.2.1", 7, 0, 0)) == "192.0.2.1"
    assert peer_host(("192.0.2.1", 7)) == "192.0.2.1"


@attrs.frozen
class LinkLocal:
    """A socket whose peer is on the link of an interface."""

    interface: int

    def getpeername(self) -> tuple[str, int, int, int]:
        """Return its address, as the system does."""
        return "fe80::1", 7, 0, self.interface


def test_link_local_peers_of_two_interfaces_are_two_hosts() -> None:
    """Limits by address count them apart; one interface's /64 is one host."""
    index, name = socket.if_nameindex()[0]
    peers = []
    for interface in (index, 2**31 - 1):
        transport: Any = types.SimpleNamespace(socket=LinkLocal(interface))
        peers.append(Peer.of(transport, "unknown"))
    assert peers[0] == Peer(f"[fe80::1%{name}]:7", f"fe80::1%{name}")
    assert peers[0].host is not None
    assert peers[1].host is not None
    assert network_of(peers[0].host) != network_of(peers[1].host)
