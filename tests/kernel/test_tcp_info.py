"""TCP_INFO and the drops of a socket: as the kernel says them, and what older ones lack."""

from __future__ import annotations

import socket
import struct

import attrs
import pytest

from techo._kernel import drops, stamps, tcp_info
from techo._kernel.drops import read_drops
from techo._kernel.tcp_info import TcpInfo, parse, read_tcp_info

linux = pytest.mark.skipif(not stamps.AVAILABLE, reason="only Linux says so")


def struct_of(**fields: int) -> bytes:
    """Return a struct tcp_info of Linux 4.10, with these fields at their offsets."""
    info = bytearray(224)
    places = {"lost": 32, "rtt": 68, "rttvar": 72, "cwnd": 80, "retrans": 100, "min": 148}
    for name, value in fields.items():
        struct.pack_into("=I", info, {**places, "reord": 220}[name], value)
    struct.pack_into("=Q", info, 160, 2**40)
    return bytes(info)


INFO = parse(struct_of(lost=1, rtt=50, rttvar=20, cwnd=10, retrans=3, min=40, reord=2))


def test_fields_are_where_linux_has_them() -> None:
    """In microseconds, segments and bytes per second."""
    assert (
        TcpInfo(
            rtt_ns=50_000,
            rttvar_ns=20_000,
            min_rtt_ns=40_000,
            retransmits=3,
            lost=1,
            reorderings=2,
            congestion_window=10,
            delivery_bytes_per_second=2**40,
        )
        == INFO
    )


def test_what_an_older_kernel_does_not_say_is_none() -> None:
    """It returns only the beginning; and no minimum was measured while that is the largest."""
    old = parse(struct_of(rtt=50, retrans=3)[:104])
    assert (old.rtt_ns, old.retransmits) == (50_000, 3)
    assert old.min_rtt_ns is old.reorderings is old.delivery_bytes_per_second is None
    assert parse(struct_of(min=2**32 - 1)).min_rtt_ns is None


def test_what_adds_up_over_connections() -> None:
    """Counts do, of what both know; the least is that of both, the rest is the latest's."""
    least = attrs.evolve(INFO, min_rtt_ns=30_000, congestion_window=99, reorderings=None)
    both = INFO.after(least)
    assert both == attrs.evolve(
        INFO, retransmits=6, lost=2, reorderings=None, min_rtt_ns=30_000
    )


@linux
def test_a_connection_says_what_it_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent again over loopback; a closed socket and other kinds say nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as one,
        listener.accept()[0] as other,
    ):
        one.send(b"x")
        assert other.recv(1)
        info = read_tcp_info(one)
        assert info is not None
        assert info.rtt_ns is not None
        assert info.rtt_ns > 0
        assert (info.congestion_window or 0) > 0
        assert info.retransmits == 0
    assert read_tcp_info(one) is None
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert read_tcp_info(sock) is None
        monkeypatch.setattr(tcp_info, "_OPTION", None)
        assert read_tcp_info(sock) is None


@linux
def test_what_a_full_socket_drops_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was sent was received or dropped; Unix and closed sockets drop nothing."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as full,
        socket.socket(type=socket.SOCK_DGRAM) as sender,
    ):
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        full.bind(("127.0.0.1", 0))
        full.setblocking(False)
        assert read_drops(full) == 0
        for _ in range(100):
            sender.sendto(bytes(1000), full.getsockname())
        dropped, received = read_drops(full), 0
        while True:
            try:
                full.recv(1000)
            except BlockingIOError:
                break
            received += 1
        assert dropped > 0
        assert received + dropped == 100
        monkeypatch.setattr(drops, "LINUX", False)
        assert read_drops(full) == 0
    monkeypatch.undo()
    assert read_drops(full) == 0
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        assert read_drops(ours) == 0
