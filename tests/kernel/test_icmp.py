"""ICMP's echo and IPv4's headers as bytes: what is sent, and what is ours of what comes."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._kernel import icmp, ip
from techo._kernel.packets import Packet

FAMILIES = [socket.AF_INET, socket.AF_INET6]
REPLIES = {socket.AF_INET: 0, socket.AF_INET6: 129}


def ipv4(payload: bytes, options: bytes = b"") -> bytes:
    """Put an IPv4 header before a payload, as far as anybody looks at it."""
    return bytes([0x45 + len(options) // 4]) + bytes(19) + options + payload


def answered(request: bytes, family: int, *, identifier: int | None = None) -> bytes:
    """Return the reply that a host sends to a request."""
    fields = list(struct.unpack("!BBHHH", request[:8]))
    fields[0], fields[2] = REPLIES[socket.AddressFamily(family)], 0
    fields[3] = fields[3] if identifier is None else identifier
    bare = struct.pack("!BBHHH", *fields) + request[8:]
    return bare[:2] + struct.pack("!H", ip.checksum(bare)) + bare[4:]


def received(reply: bytes, *, raw: bool, family: int) -> Packet:
    """Return a reply as a socket receives it."""
    return Packet(ipv4(reply) if raw and family == socket.AF_INET else reply)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.binary(max_size=100))
def test_a_reply_has_the_message(family: int, data: bytes, *, raw: bool) -> None:
    """Whatever the message is, over either kind of socket, and nobody answers for us."""
    layout = icmp.EchoFormat(family, raw)
    request = layout.framed(data)
    reply = answered(request, family)
    assert layout.payload_of(received(reply, raw=raw, family=family)) == data
    assert layout.payload_of(received(request, raw=raw, family=family)) is None
    if family == socket.AF_INET:
        assert ip.is_sound(request)


def test_a_request_is_as_everybody_s() -> None:
    """Type, code, checksum, identifier and number, as RFC 792 has them; the next is 2."""
    layout = icmp.EchoFormat(socket.AF_INET, raw=True, identifier=0x1234)
    assert layout.framed(b"abc") == bytes.fromhex("0800 2168 1234 0001 616263")
    assert layout.framed(b"")[6:8] == b"\0\2"


@pytest.mark.parametrize("family", FAMILIES)
def test_replies_to_others_are_not_ours(family: int) -> None:
    """A raw socket hears them all; on a datagram socket the system has its own identifier."""
    layout = icmp.EchoFormat(family, raw=True, identifier=1)
    reply = answered(layout.framed(b"hello"), family, identifier=2)
    assert layout.payload_of(received(reply, raw=True, family=family)) is None
    theirs = icmp.EchoFormat(family, raw=False, identifier=1)
    assert theirs.payload_of(received(reply, raw=False, family=family)) == b"hello"


def test_what_is_harmed_or_cut_in_its_header_is_dropped() -> None:
    """The kernel gives raw sockets of IPv4 what it has not looked at."""
    layout = icmp.EchoFormat(socket.AF_INET, raw=True)
    reply = answered(layout.framed(b"hello"), socket.AF_INET)
    for harmed in (reply[:-1] + b"?", reply[:7], b"", b"\1" + reply[1:]):
        assert layout.payload_of(Packet(ipv4(harmed))) is None
    assert layout.payload_of(Packet(b"")) is None


def test_options_of_the_header_are_no_part_of_the_message() -> None:
    """Nor of what another protocol carries."""
    layout = icmp.EchoFormat(socket.AF_INET, raw=True)
    reply = answered(layout.framed(b"hello"), socket.AF_INET)
    assert layout.payload_of(Packet(ipv4(reply, options=bytes(8)))) == b"hello"
    assert ip.RawFormat().payload_of(Packet(ipv4(b"hello", options=bytes(40)))) == b"hello"
    assert ip.RawFormat().payload_of(Packet(ipv4(b""))) == b""


@given(st.binary(max_size=64))
def test_the_checksum_is_that_of_rfc_1071(data: bytes) -> None:
    """By its own words: the one's complement of the sum of all 16-bit words."""
    padded, total = data + b"\0" * (len(data) % 2), 0
    for (word,) in struct.iter_unpack("!H", padded):
        total += word
        total = (total & 0xFFFF) + (total >> 16)
    assert ip.checksum(data) in ({0xFFFF - total} | ({0xFFFF} if total == 0xFFFF else set()))


def test_filters_let_one_type_in() -> None:
    """A bit that is set keeps a type out, in words of this machine's order."""
    assert struct.unpack("=I", icmp.all_but(0, 32)) == (0xFFFFFFFE,)
    words = struct.unpack("=8I", icmp.all_but(129, 256))
    assert words == tuple(0xFFFFFFFD if number == 4 else 0xFFFFFFFF for number in range(8))
