"""The PROXY header: what proxies say, in one piece or in many, and what must be refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from techo._proxy_header import (
    SIGNATURE,
    Address,
    ProxyHeader,
    ProxyHeaderError,
    Tlv,
    crc32c,
    encode_v1,
    encode_v2,
    missing,
    parse,
    split,
)

PORTS = st.integers(0, 0xFFFF)
PATHS = st.builds(
    str.__add__, st.sampled_from(["", "@"]), st.from_regex(r"[a-z/.]{1,90}", fullmatch=True)
)


def pairs(version: int) -> st.SearchStrategy[tuple[Address, Address]]:
    """Make a source and a destination, both of one version of IP, and neither mapped."""
    hosts = st.ip_addresses(v=version)  # type: ignore[arg-type]  # it is 4 or 6
    plain = hosts.filter(lambda host: getattr(host, "ipv4_mapped", None) is None)
    address = st.tuples(plain.map(str), PORTS)
    return st.tuples(address, address)


INTERNET = pairs(4) | pairs(6)
TLVS = st.lists(st.tuples(st.sampled_from([0x04, 0x05, 0xE0]), st.binary(max_size=40)))


def received(data: bytes, sizes: list[int]) -> bytes:
    """Return what is taken of `data` if it comes in pieces of at most those sizes."""
    taken = b""
    while wanted := missing(taken):
        size = min(wanted, sizes[len(taken) % len(sizes)])
        taken += data[len(taken) : len(taken) + size]
    return taken


SIZES = st.lists(st.integers(1, 120), min_size=1, max_size=9)


@given(INTERNET, SIZES, st.binary(max_size=30))
def test_version_1_comes_back_in_whatever_pieces(
    pair: tuple[Address, Address], sizes: list[int], rest: bytes
) -> None:
    """Not a byte behind the line is taken."""
    line = encode_v1(*pair)
    assert received(line + rest, sizes) == line
    assert parse(line) == ProxyHeader(*pair)
    assert len(line) <= 107


@given(INTERNET | st.tuples(PATHS, PATHS), TLVS, SIZES, st.binary(max_size=30), st.booleans())
def test_version_2_comes_back_in_whatever_pieces(
    pair: tuple[Address, Address],
    tlvs: list[tuple[int, bytes]],
    sizes: list[int],
    rest: bytes,
    datagram: bool,  # noqa: FBT001  -- made by hypothesis
) -> None:
    """Not a byte behind the header is taken, also before a datagram's payload."""
    data = encode_v2(*pair, datagram=datagram, tlvs=tlvs)
    assert received(data + rest, sizes) == data
    header = parse(data)
    assert (header.source, header.destination) == pair
    assert header.datagram == datagram
    assert header.tlvs[:-1] == tuple(tlvs)
    assert split(data + rest) == (header, len(data))


@given(pairs(4), st.integers(0, 500), st.integers(1, 255))
def test_a_header_that_was_altered_is_refused(
    pair: tuple[Address, Address], place: int, change: int
) -> None:
    """The checksum covers every byte but the one that says that there is a checksum."""
    data = bytearray(encode_v2(*pair))
    assume(place % len(data) != len(data) - 7)
    data[place % len(data)] ^= change
    try:
        if missing(bytes(data)):
            return  # it states another length, and the rest of it never comes
        header = parse(bytes(data))
    except ProxyHeaderError:
        return
    # What is left says that it is the proxy's own connection, or of no address.
    assert header.source is None


@given(st.binary(max_size=60))
def test_anything_else_is_refused_or_waited_for(data: bytes) -> None:
    """Nothing but a `ProxyHeaderError` is raised for bytes of any kind."""
    for begin in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"):
        try:
            whole = begin + data
            if not missing(whole):
                assert isinstance(parse(whole), ProxyHeader)
        except ProxyHeaderError:
            pass  # that is one of the two


@pytest.mark.parametrize(
    ("line", "source"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65535 443\r\n", ("192.0.2.1", 65535)),
        (b"PROXY TCP6 2001:db8::1 ::1 0 1\r\n", ("2001:db8::1", 0)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5 7\r\n", ("192.0.2.1", 5)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ff:: any thing\r\n", None),
    ],
)
def test_lines_as_the_protocol_has_them(line: bytes, source: Address | None) -> None:
    """HAProxy's own document shows them."""
    assert received(line + b"hello", [1]) == line
    assert parse(line).source == source


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
        b"PROXY TCP4 192.0.2.1  198.51.100.2 1 443\r\n",
        b"PROXY TCP4 ::1 ::1 10 443\r\n",
        b"PROXY TCP6 fe80::1%lo fe80::1 10 443\r\n",
        b"PROXY TCP6 ::1 ::1 10 443 1\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 10 443\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 1\n443\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"PROXY " + b"x" * 200,
        b"proxy TCP4 192.0.2.1 198.51.100.2 1 443\r\n",
    ],
)
def test_lines_of_another_form_are_refused(line: bytes) -> None:
    """They are refused within 107 bytes, however long they would go on."""
    with pytest.raises(ProxyHeaderError):
        parse(received(line, [3]))


def test_what_a_proxy_says_of_tls_is_read() -> None:
    """Authority, ALPN, and the TLS of its client, as HAProxy sends them."""
    ssl = bytes([0b101]) + bytes(4) + b"\x21\x00\x07TLSv1.3" + b"\x22\x00\x05alice"
    tlvs = [(Tlv.ALPN, b"h2"), (Tlv.AUTHORITY, b"echo.example"), (Tlv.SSL, ssl)]
    header = parse(encode_v2(("::1", 1), ("::2", 2), tlvs=tlvs))
    assert (header.alpn, header.authority) == (b"h2", "echo.example")
    assert header.ssl is not None
    assert header.ssl.verified
    assert header.ssl.texts == {Tlv.SSL_VERSION: "TLSv1.3", Tlv.SSL_CN: "alice"}


@pytest.mark.parametrize(
    ("version", "kind", "body"),
    [
        (0x11, 0x11, bytes(12)),
        (0x22, 0x11, bytes(12)),
        (0x21, 0x41, bytes(12)),
        (0x21, 0x13, bytes(12)),
        (0x21, 0x21, bytes(12)),
        (0x21, 0x11, bytes(12) + b"\x01\x00"),
        (0x21, 0x11, bytes(12) + b"\x01\x00\x05abc"),
        (0x21, 0x11, bytes(12) + b"\x20\x00\x01\x00"),
        (0x21, 0x11, bytes(12) + b"\x03\x00\x04\x00\x00\x00\x00"),
        (0x21, 0x11, bytes(5000)),
    ],
)
def test_binary_headers_of_another_form_are_refused(
    version: int, kind: int, body: bytes
) -> None:
    """Another version, command, family or transport; cut short; a wrong checksum; too long."""
    data = SIGNATURE + bytes([version, kind]) + len(body).to_bytes(2, "big") + body
    with pytest.raises(ProxyHeaderError):
        parse(received(data, [7]))


def test_a_datagram_s_header_has_the_same_bound() -> None:
    """So nobody has the checksum of 64 KiB computed for each."""
    body = bytes(12) + b"\x04\x13\x00" + bytes(0x1300)
    data = SIGNATURE + bytes([0x21, 0x12]) + len(body).to_bytes(2, "big") + body
    with pytest.raises(ProxyHeaderError, match="a PROXY header of 4879 bytes"):
        split(data)


@pytest.mark.parametrize("kind", [0x00, 0x11])
def test_a_proxy_s_own_connection_has_no_source(kind: int) -> None:
    """LOCAL is for health checks: whatever addresses follow, the peer is the proxy itself."""
    data = SIGNATURE + bytes([0x20, kind]) + b"\x00\x0c" + bytes(12)
    header = parse(received(data + b"x", [5]))
    assert header.local
    assert header.source is None
    assert parse(encode_v2(None, None)) == ProxyHeader(local=True)


def test_an_address_that_is_mapped_is_the_one_of_ipv4() -> None:
    """A dual-stack proxy says it in sixteen bytes."""
    header = parse(encode_v2(("::ffff:192.0.2.1", 5), ("::1", 7)))
    assert header.source == ("192.0.2.1", 5)


def test_the_checksum_is_castagnoli_s() -> None:
    """RFC 9260 and everybody else have this value for these nine digits."""
    assert crc32c(b"123456789") == 0xE3069283
