"""PROXY headers that clients send, so that a server which wants them can be tested."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any

import pytest
import trio

import techo
from helpers import PATIENCE
from techo import testing
from techo._transport import connect as connecting

PLACES = [
    ("tcp://127.0.0.1:0", "v1"),
    ("tcp://[::1]:0", "v2"),
    ("tls://127.0.0.1:0", "v2"),
    (f"unix:@techo-proxied-{os.getpid()}", "v2"),
    ("udp://127.0.0.1:0", "v2"),
]


class Noting(techo.Admission):
    """Notes who is really there."""

    def __init__(self) -> None:
        super().__init__(proxy_from=["127.0.0.1", "::1", "unix"])
        self.names: list[object] = []

    async def identify(self, transport: Any, peer: techo.Peer) -> techo.Peer:
        """Note the name."""
        found = await super().identify(transport, peer)
        self.names.append(found.name)
        return found

    def identify_datagram(self, data: memoryview, sender: object) -> tuple[memoryview, object]:
        """Note the address."""
        found = super().identify_datagram(data, sender)
        self.names.append(found[1])
        return found


@pytest.mark.parametrize(("place", "version"), PLACES, ids=lambda text: text.partition(":")[0])
async def test_a_client_speaks_for_its_own_address(
    place: str, version: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Round trips go as ever, and the server finds the client where it really is."""
    hook, options = Noting(), techo.SocketOptions(send_proxy=version)
    tls = client_tls if place.startswith("tls") else None
    async with techo.open_server(place, reply=techo.raw, tls=server_tls, hook=hook) as server:
        name = None if tls is None else "localhost"
        with trio.fail_after(PATIENCE):
            async with techo.open_client(
                server.endpoints[0], tls=tls, server_name=name, options=options
            ) as client:
                for data in (b"hello", b"x" * 20_000):
                    assert (await client.round_trip(data)).reply == data
            report = await techo.load(
                server.endpoints[0],
                connections=2,
                trips=10,
                tls=tls,
                server_name=name,
                options=options,
            )
    assert (report.sent, report.failed) == (10, 0)
    assert len(set(hook.names)) == (1 if place.startswith("unix") else 3)


@pytest.mark.parametrize(
    ("place", "version", "words"),
    [
        ("udp://127.0.0.1:1", "v1", "for which there is only v2"),
        ("unixgram:@x", "v2", "is neither tcp, tls, unix nor udp"),
        ("unixpacket:@x", "v1", "is neither tcp, tls, unix nor udp"),
        ("tcp://127.0.0.1:1", "v3", "send_proxy 'v3'"),
    ],
)
async def test_where_no_header_can_be_sent_is_said(
    place: str, version: str, words: str
) -> None:
    """The text names the endpoint or the value."""
    with pytest.raises(ValueError, match=words):
        async with techo.open_client(place, options=techo.SocketOptions(send_proxy=version)):
            raise AssertionError("there is nothing to connect to")


async def test_every_datagram_to_a_name_has_the_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also once one of several addresses has answered, whichever clock is asked for."""
    monkeypatch.setattr(connecting, "look_up", two_addresses)
    hook, options = Noting(), techo.SocketOptions(send_proxy="v2")
    async with techo.open_server("udp://127.0.0.1:0", reply=techo.raw, hook=hook) as server:
        target = f"udp://several.example:{server.endpoints[0].port}"
        async with techo.ping(
            target, count=4, interval=0.01, timeout=PATIENCE, options=options
        ) as ping:
            with trio.fail_after(PATIENCE):
                results = [each async for each in ping]
    assert [type(each) for each in results] == [techo.PingReply] * 4
    assert server.statistics().datagrams.dropped[techo.DropReason.DENIED] == 0
    assert len(hook.names) >= 4


async def two_addresses(_host: str, port: int, kind: int, *_: object) -> list[object]:
    """Find two addresses, of which the server has the first."""
    await trio.lowlevel.checkpoint()
    hosts = ("127.0.0.1", "127.0.0.2")
    return [(socket.AF_INET, kind, 0, "", (host, port)) for host in hosts]


async def test_check_sends_no_header_before_its_datagrams() -> None:
    """So it refuses to, where the server would have to be told who is there."""
    options = techo.SocketOptions(send_proxy="v2")
    with pytest.raises(ValueError, match="send_proxy 'v2': the datagrams that are checked"):
        await testing.check_echo_service("udp://127.0.0.1:1", options=options)
