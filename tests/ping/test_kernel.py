"""What the kernel knows besides: what TCP had to do, and what no socket had room for."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

import techo
from helpers import PATIENCE, until
from pings import see
from techo._figures import figures_of_ping
from techo._kernel import stamps
from techo._load.text import text_of
from techo._ping.text import summary_of, table_of

pytestmark = pytest.mark.skipif(not stamps.AVAILABLE, reason="only Linux says so")

QUICK: dict[str, Any] = {"interval": 0.01, "timeout": PATIENCE}


async def test_tcp_says_what_it_measured() -> None:
    """Of the connection there is, and of those that are over: the sums of what adds up."""
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        async with techo.ping(server.endpoints[0], count=3, **QUICK) as ping:
            assert ping.statistics().tcp is None
            with trio.fail_after(PATIENCE):
                async for _ in ping:
                    there = ping.statistics().tcp
        assert there is not None
        found = ping.statistics()
        assert found.tcp is not None
        assert (there.retransmits, found.tcp.retransmits) == (0, 0)
        assert found.tcp.rtt_ns is not None
        assert found.tcp.rtt_ns > 0
        assert figures_of_ping(found)["retransmits"] == 0
        [line] = [each for each in table_of(found) if each.startswith("tcp")]
        assert " ms, 0 resent, 0 lost, cwnd " in line
        connecting = await see(techo.ping(server.endpoints[0], connect=True, count=2, **QUICK))
        assert connecting.statistics.tcp is not None
    async with techo.open_server("udp://127.0.0.1:0") as server:
        seen = await see(techo.ping(server.endpoints[0], count=1, **QUICK))
    assert seen.statistics.tcp is None
    assert figures_of_ping(seen.statistics)["retransmits"] is None


async def answer(peer: trio.socket.SocketType, copies: int) -> None:
    """Answer one message so often that a small socket has no room for all of them."""
    probe, sender = await peer.recvfrom(10_000)
    same = socket.socket(fileno=peer.fileno())
    try:
        for _ in range(copies):
            same.sendto(probe, sender)  # while nobody can receive
    finally:
        same.detach()


@pytest.mark.parametrize("command", ["ping", "load"])
async def test_what_our_own_socket_had_no_room_for_is_counted(command: str) -> None:
    """It is told apart from what came, and the text says how much of the loss it may be."""
    options, copies = techo.SocketOptions(receive_buffer=1), 100
    report: techo.PingStatistics | techo.LoadReport
    with trio.socket.socket(type=socket.SOCK_DGRAM) as peer:
        await peer.bind(("127.0.0.1", 0))
        target = f"udp://127.0.0.1:{peer.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer, peer, copies)
            if command == "ping":
                ping = techo.ping(
                    target, interval=PATIENCE, timeout=PATIENCE, size=1000, options=options
                )
                async with ping:
                    with trio.fail_after(PATIENCE):
                        await anext(ping)
                        await until(lambda: ping.statistics().dropped_here)
                report = ping.statistics()
                [line] = [x for x in summary_of(report, sweep=False) if "dropped here" in x]
                assert line.endswith("as the socket's buffer was full; none of them a reply")
            else:
                report = await techo.load(
                    target, connections=1, trips=2, size=1000, timeout=0.2, options=options
                )
                assert report.lost
                text = " ".join(text_of(report).split())
                assert f"up to {report.lost} of {report.lost} lost" in text
                again = techo.LoadReport.from_json(report.to_json())
                assert again.dropped_here == report.dropped_here
    assert 0 < report.dropped_here < copies
    assert report.to_json()["dropped_here"] == report.dropped_here


async def test_the_server_counts_what_its_sockets_had_no_room_for() -> None:
    """Also when they are closed: whatever was sent was received or dropped."""
    count = 3_000
    async with techo.open_server("udp://127.0.0.1:0", reply=techo.raw) as server:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect((server.endpoints[0].host, server.endpoints[0].port))
            for _ in range(count):
                client.send(bytes(500))

            def all_is_known() -> bool:
                found = server.statistics().datagrams
                return found.received + found.dropped_here == count

            await until(all_is_known)
        while_open = server.statistics().datagrams
    assert while_open.dropped_here > 0
    assert server.statistics().datagrams.dropped_here == while_open.dropped_here
