"""What the kernel knows of packets: parsed from bytes, and as it says it over loopback."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from helpers import PATIENCE
from techo._kernel import error_queue, packets, stamps
from techo._kernel.error_queue import NetworkError, Origin, SendStamp, read_errors
from techo._kernel.packets import Packet, ask_for_headers, receive_packet

pytestmark = pytest.mark.usefixtures("stamping")

linux = pytest.mark.skipif(not stamps.AVAILABLE, reason="only Linux has stamps")


@pytest.mark.parametrize(
    ("ttl", "hops"), [(64, 0), (63, 1), (128, 0), (100, 28), (255, 0), (20, None), (65, None)]
)
def test_hops_are_inferred_where_that_can_be(ttl: int, hops: int | None) -> None:
    """Where a TTL that is usual to begin with is not far above."""
    assert packets.hops_of(ttl) == hops


STAMP = (socket.SOL_SOCKET, 37, struct.pack("=6q", 1_700_000_000, 5, 0, 0, 0, 0))
STAMP_NS = 1_700_000_000_000_000_005

Pair = tuple[socket.socket, socket.socket]
"""Two sockets that are connected to each other, over IPv4 or IPv6."""


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    """An address of this machine, of either family."""
    return str(request.param)


def family_of(host: str) -> socket.AddressFamily:
    """Return the family of an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@pytest.fixture
def datagrams(host: str) -> Iterator[Pair]:
    """Two sockets for datagrams."""
    with (
        socket.socket(family_of(host), socket.SOCK_DGRAM) as one,
        socket.socket(family_of(host), socket.SOCK_DGRAM) as other,
    ):
        one.bind((host, 0))
        other.bind((host, 0))
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        yield one, other


def receive(sock: socket.socket, size: int = 100) -> Packet:
    """Receive what is there soon: loopback may be late on a busy machine."""
    readable, _, _ = select.select([sock], [], [], PATIENCE)
    assert readable
    return receive_packet(sock, size)


def read_at_least(sock: socket.socket, count: int) -> list[error_queue.Entry]:
    """Read as many entries of the error queue, or more."""
    poll, entries = select.poll(), read_errors(sock)
    poll.register(sock, 0)
    while len(entries) < count:
        assert poll.poll(PATIENCE * 1000)
        entries += read_errors(sock)
    return entries


def extended(*, number: int, origin: int, info: int = 0, data: int = 0) -> bytes:
    """Return a sock_extended_err without an offender."""
    return struct.pack("=IBBBBII", number, origin, 3, 4, 0, info, data) + bytes(16)


def test_a_packet_has_what_the_kernel_says_of_it() -> None:
    """Of IPv4 a byte for TOS, of IPv6 a C int; what else there may be is passed over."""
    ttl, hops = struct.pack("i", 61), struct.pack("i", 62)
    v4 = packets.parse(b"data", [STAMP, (0, 2, ttl), (0, 1, b"\xb9"), (0, 99, b"?")])
    assert v4 == Packet(b"data", STAMP_NS, 61, 0xB9)
    assert (v4.dscp, v4.ecn) == (46, 1)
    tclass = struct.pack("i", 0x20)
    v6 = packets.parse(b"", [(41, 52, hops), (41, 67, tclass)], socket.MSG_TRUNC)
    assert v6 == Packet(b"", None, 62, 0x20, truncated=True)
    assert Packet(b"").dscp is Packet(b"").ecn is None


def test_a_stamp_of_32_bits_and_none_are_read() -> None:
    """A system of 32 bits has shorter ones, and all zeros are no software stamp."""
    short = (socket.SOL_SOCKET, 37, struct.pack("=6l", 1_700_000_000, 5, 0, 0, 0, 0))
    assert stamps.stamp_in([short]) == STAMP_NS
    assert stamps.stamp_in([(socket.SOL_SOCKET, 37, bytes(48))]) is None
    assert stamps.stamp_in([(socket.SOL_SOCKET, 1, b"")]) is None


def test_the_error_queue_tells_stamps_from_errors() -> None:
    """By their origin; an error has who says so, and the MTU that would fit."""
    number = struct.pack("=I", 2)
    v4 = struct.pack("=HH", socket.AF_INET, 0) + bytes([10, 0, 0, 1]) + bytes(8)
    error = extended(number=errno.EMSGSIZE, origin=2, info=1300)[:16] + v4
    assert error_queue.parse(b"payload", [STAMP, (0, 11, error)]) == NetworkError(
        errno.EMSGSIZE, Origin.ICMP, 3, 4, 1300, "10.0.0.1", b"payload"
    )
    address = socket.inet_pton(socket.AF_INET6, "fe80::1")
    v6 = struct.pack("=HHI", socket.AF_INET6, 0, 0) + address + struct.pack("=I", 99_999)
    found = error_queue.parse(b"", [(41, 25, extended(number=113, origin=3)[:16] + v6)])
    assert isinstance(found, NetworkError)
    assert (found.origin, found.offender) == (Origin.ICMP6, "fe80::1%99999")
    stamp = extended(number=errno.ENOMSG, origin=4, data=7)
    assert error_queue.parse(b"", [STAMP, (0, 11, stamp)]) == SendStamp(7, STAMP_NS)
    local = error_queue.parse(b"", [(0, 11, extended(number=errno.EMSGSIZE, origin=1))])
    assert isinstance(local, NetworkError)
    assert (local.origin, local.offender) == (Origin.LOCAL, None)
    # A stamp without its time, a zero-copy completion, and what is no error at all.
    for nothing in ((0, 11, stamp), (0, 11, extended(number=0, origin=5)), (0, 2, number)):
        assert error_queue.parse(b"", [nothing]) is None


@linux
@pytest.mark.parametrize("sending", stamps.Sending)
def test_datagrams_are_stamped_in_order(datagrams: Pair, sending: stamps.Sending) -> None:
    """Each has its number and both its times, which lie between two looks at the clock."""
    one, other = datagrams
    assert stamps.switch_on(one, tcp=False, sending=sending)
    assert stamps.switch_on(other, tcp=False, sending=sending)
    ask_for_headers(other)
    for number in range(3):
        before = time.time_ns()
        one.send(b"x" * number)
        packet, after = receive(other), time.time_ns()
        [sent] = read_at_least(one, 1)
        assert isinstance(sent, SendStamp)
        assert packet.received_ns is not None
        assert sent.number == number
        assert before <= sent.sent_ns <= packet.received_ns <= after
        assert packet == Packet(
            b"x" * number, packet.received_ns, 64, 0, packet.address, truncated=False
        )
        assert packet.address[:2] == one.getsockname()[:2]
    assert read_errors(one) == []
    one.send(b"too long")
    assert receive(other, 3).truncated
    with pytest.raises(BlockingIOError):
        receive_packet(other, 3)


@linux
def test_a_refusal_is_read_with_the_message_it_is_about(host: str) -> None:
    """Whose port was closed says so; the stamp of the same datagram lies before that."""
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        name = sock.getsockname()
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as sock:
        sock.connect(name)
        level, option = (41, 25) if ":" in host else (0, 11)
        sock.setsockopt(level, option, 1)
        assert stamps.switch_on(sock, tcp=False)
        sock.send(b"anybody?")
        stamp, error = read_at_least(sock, 2)
        assert isinstance(stamp, SendStamp)
        assert isinstance(error, NetworkError)
        assert (error.errno, error.offender, error.data) == (
            errno.ECONNREFUSED,
            host,
            b"anybody?",
        )
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@linux
@pytest.mark.parametrize("sending", stamps.Sending)
def test_tcp_is_stamped_by_bytes(host: str, sending: stamps.Sending) -> None:
    """A send has the number of its last byte, counted from when stamps were switched on."""
    with (
        socket.create_server((host, 0), family=family_of(host)) as listener,
        socket.create_connection(listener.getsockname()[:2]) as one,
        listener.accept()[0] as other,
    ):
        one.send(b"before")
        assert stamps.switch_on(one, tcp=True, sending=sending)
        assert stamps.switch_on(other, tcp=True)
        assert other.recv(6) == b"before"
        last = -1
        for size in (1, 64, 3):
            one.send(bytes(size))
            last += size
            packet = receive(other)
            [sent] = read_at_least(one, 1)
            assert isinstance(sent, SendStamp)
            assert packet.received_ns is not None
            assert sent.number == last
            assert sent.sent_ns <= packet.received_ns
            assert len(packet.data) == size


@linux
def test_what_has_no_stamps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unix sockets, MPTCP, other systems, and sockets that are closed or not connected."""
    for each in socket.socketpair():
        with each:
            assert not stamps.switch_on(each, tcp=True)
    with socket.socket() as sock:
        assert not stamps.switch_on(sock, tcp=True)
    try:
        mptcp = socket.socket(proto=262)
    except OSError:
        pass  # this kernel has none, or it is switched off
    else:
        with mptcp:
            assert not stamps.switch_on(mptcp, tcp=True)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        assert stamps.switch_on(sock, tcp=False)
        monkeypatch.setattr(stamps, "AVAILABLE", False)
        assert not stamps.switch_on(sock, tcp=False)


@linux
def test_an_older_kernel_counts_from_what_was_not_acknowledged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So its numbers are only taken where all was acknowledged, as after connecting."""
    asked = stamps._ask
    newest = stamps._OPT_ID_TCP
    monkeypatch.setattr(
        stamps, "_ask", lambda sock, flags: not flags & newest and asked(sock, flags)
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as sock,
    ):
        assert stamps.switch_on(sock, tcp=True)
        sock.send(bytes(10))
        [stamp] = read_at_least(sock, 1)
        assert isinstance(stamp, SendStamp)
        assert stamp.number == 9
        stamps.switch_off(sock)
        monkeypatch.setattr(stamps, "_unacknowledged", lambda _: 1)
        assert not stamps.switch_on(sock, tcp=True)
