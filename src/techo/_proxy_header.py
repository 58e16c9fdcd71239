"""The PROXY protocol's header, versions 1 and 2: bytes in, a value out, and back.

A proxy sends it first, so that the server learns whom it connects on behalf of. The source is
HAProxy's ``doc/proxy-protocol.txt``; names of types and fields are its own.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, TypeAlias

import attrs

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""What a header of version 2 begins with."""

_PREAMBLE: Final = struct.Struct("!12sBBH")
"""Signature, version and command, family and transport, and how many bytes follow."""

MOST_V2: Final = 2**12
"""Bytes that are read of one header of version 2: it could state 65,535, and needs 600 if its
proxy sends all there is to say of a TLS connection."""

LONGEST_V2: Final = _PREAMBLE.size + MOST_V2
"""Bytes of one, at the most."""

_LONGEST_LINE: Final = 107
"""Bytes of a header of version 1, its end included."""

_LEAST: Final = {
    b"PROXY TCP4 ": len("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n"),
    b"PROXY TCP6 ": len("PROXY TCP6 :: :: 1 1\r\n"),
    b"PROXY UNKNOWN": len("PROXY UNKNOWN\r\n"),
}
"""Bytes of the shortest line that begins so. What follows the line is not to be read."""

_NONE: Final = struct.Struct("")
_INET: Final = struct.Struct("!4s4sHH")
_INET6: Final = struct.Struct("!16s16sHH")
_UNIX: Final = struct.Struct("!108s108s")

_LAST_PORT: Final = 0xFFFF

_TLV: Final = struct.Struct("!BH")
_SSL: Final = struct.Struct("!BI")

Address: TypeAlias = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class ProxyHeaderError(ValueError):
    """What came is no PROXY header, or one that must be refused."""


class Tlv(enum.IntEnum):
    """What a header of version 2 can say besides addresses (PP2_TYPE_...)."""

    ALPN = 0x01
    AUTHORITY = 0x02
    CRC32C = 0x03
    NOOP = 0x04
    UNIQUE_ID = 0x05
    SSL = 0x20
    SSL_VERSION = 0x21
    SSL_CN = 0x22
    SSL_CIPHER = 0x23
    SSL_SIG_ALG = 0x24
    SSL_KEY_ALG = 0x25
    NETNS = 0x30


@attrs.frozen
class ProxySsl:
    """What the proxy says of the TLS connection that its client has with it."""

    client: int
    """Bits: 1, it is TLS; 2, a certificate came in this connection; 4, in this session."""
    verified: bool
    """Whether the client showed a certificate that was verified."""
    texts: Mapping[int, str] = attrs.field(factory=dict)
    """Version, name, cipher and algorithms, by their `Tlv`."""


@attrs.frozen
class ProxyHeader:
    """On whose behalf a proxy connects, and what else it says of that connection."""

    source: Address | None = None
    """Who connected to the proxy; None if it says LOCAL or UNKNOWN: it is on its own behalf, or
    does not know."""
    destination: Address | None = None
    """Where to."""
    datagram: bool = False
    """Whether that is a source of datagrams."""
    local: bool = False
    """Whether the proxy connects on its own behalf, as for a health check."""
    authority: str | None = None
    """The name that the client asked for, as by SNI."""
    alpn: bytes | None = None
    """The protocol that was agreed on with it."""
    ssl: ProxySsl | None = None
    tlvs: tuple[tuple[int, bytes], ...] = ()
    """All that came besides addresses, in order, each with its type."""


def missing(data: bytes) -> int:
    """Return how many bytes may be received to go on with `data`; 0 if the header is whole.

    Never more than there are of the header, so that nothing behind it is taken.

    Raises:
        ProxyHeaderError: no header begins like that.
    """
    if len(data) < len(SIGNATURE):
        if not SIGNATURE.startswith(data) and not b"PROXY ".startswith(data[:6]):
            raise ProxyHeaderError("no PROXY header")
        return len(SIGNATURE) - len(data)
    if data.startswith(SIGNATURE):
        if len(data) < _PREAMBLE.size:
            return _PREAMBLE.size - len(data)
        length = _PREAMBLE.unpack_from(data)[3]
        if length > MOST_V2:
            raise ProxyHeaderError(f"a PROXY header of {length} bytes")
        return max(0, _PREAMBLE.size + int(length) - len(data))
    if not data.startswith(b"PROXY "):
        raise ProxyHeaderError("no PROXY header")
    if data.endswith(b"\r\n"):
        return 0
    if len(data) >= _LONGEST_LINE or b"\n" in data:
        raise ProxyHeaderError("a PROXY line without its end")
    known = max((least for begin, least in _LEAST.items() if data.startswith(begin)), default=0)
    most = _LONGEST_LINE - len(data)
    return min(most, max(known - len(data), 1 if data.endswith(b"\r") else 2))


def parse(data: bytes) -> ProxyHeader:
    """Return what a whole header says; of a datagram, see `split`.

    Raises:
        ProxyHeaderError: it is not as the protocol has it, and the connection must end.
    """
    return _parse_v2(data) if data.startswith(SIGNATURE) else _parse_v1(data)


def split(datagram: bytes) -> tuple[ProxyHeader, int]:
    """Return what the header before a datagram's payload says, and where the payload begins.

    Over UDP that is version 2 only.

    Raises:
        ProxyHeaderError: there is no such header.
    """
    if not datagram.startswith(SIGNATURE) or len(datagram) < _PREAMBLE.size:
        raise ProxyHeaderError("no PROXY header")
    length = int(_PREAMBLE.unpack_from(datagram)[3])
    end = _PREAMBLE.size + length
    if length > MOST_V2:
        raise ProxyHeaderError(f"a PROXY header of {length} bytes")
    if len(datagram) < end:
        raise ProxyHeaderError("a PROXY header without its end")
    return _parse_v2(datagram[:end]), end


def _parse_v1(line: bytes) -> ProxyHeader:
    words = line.removesuffix(b"\r\n").decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":  # whatever follows, and however long it is
        return ProxyHeader()
    try:
        _, family, source, destination, *ports = words
        hosts = [_read_host(family, each) for each in (source, destination)]
        numbers = [_port(each) for each in ports]
        (source_host, destination_host), (source_port, destination_port) = hosts, numbers
    except ValueError:
        raise ProxyHeaderError("a PROXY line of another form") from None
    return ProxyHeader((source_host, source_port), (destination_host, destination_port))


def _text_of(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Return an address as text; one of IPv4 that IPv6 has mapped is the one that it is.

    A dual-stack proxy says ``::ffff:192.0.2.1`` (RFC 4291, 2.5.5.2), and lists of networks and
    limits by address mean the machine.
    """
    return str(getattr(address, "ipv4_mapped", None) or address)


def _read_host(family: str, text: str) -> str:
    address = ipaddress.ip_address(text)
    if family != f"TCP{address.version}" or "%" in text:
        raise ValueError(text)
    return _text_of(address)


def _port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > _LAST_PORT:
        raise ValueError(text)
    return int(text)


def _parse_v2(data: bytes) -> ProxyHeader:
    _, version, kind, length = _PREAMBLE.unpack_from(data)
    body = data[_PREAMBLE.size :]
    if version >> 4 != 2 or len(body) != length:  # noqa: PLR2004  -- the version
        raise ProxyHeaderError(f"PROXY version {version >> 4}")
    if version & 0xF > 1:
        raise ProxyHeaderError(f"PROXY command {version & 0xF}")
    if not version & 0xF:
        return ProxyHeader(local=True)
    source, destination, begin = _addresses(kind, body)
    tlvs = tuple(_tlvs(body[begin:]))
    _verify(data, begin, tlvs)
    found = dict(tlvs)
    authority = found.get(Tlv.AUTHORITY)
    return ProxyHeader(
        source,
        destination,
        datagram=kind & 0xF == 2,  # noqa: PLR2004  -- DGRAM
        authority=None if authority is None else authority.decode("utf-8", "replace"),
        alpn=found.get(Tlv.ALPN),
        ssl=_ssl(found[Tlv.SSL]) if Tlv.SSL in found else None,
        tlvs=tlvs,
    )


def _addresses(kind: int, body: bytes) -> tuple[Address | None, Address | None, int]:
    """Return source and destination, and where in the body they end."""
    family, transport = kind >> 4, kind & 0xF
    if family > 3 or transport > 2:  # noqa: PLR2004  -- AF_UNIX, DGRAM
        raise ProxyHeaderError(f"PROXY address family and transport {kind:#04x}")
    layout = (_NONE, _INET, _INET6, _UNIX)[family]
    if len(body) < layout.size:
        raise ProxyHeaderError("a PROXY header that ends in its addresses")
    if not family or not transport:
        return None, None, layout.size
    source, destination, *ports = layout.unpack_from(body)
    if layout is _UNIX:
        return _path(source), _path(destination), layout.size
    hosts = [_text_of(ipaddress.ip_address(each)) for each in (source, destination)]
    return (hosts[0], ports[0]), (hosts[1], ports[1]), layout.size


def _path(field: bytes) -> str:
    """Return a Unix path as people write it: @ begins the name of one without a file."""
    abstract = field[:1] == b"\0" and bool(field.strip(b"\0"))
    path = field.rstrip(b"\0") if abstract else field.partition(b"\0")[0]
    return path.decode("utf-8", "surrogateescape").replace("\0", "@", 1)


def _tlvs(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        if len(data) < _TLV.size:
            raise ProxyHeaderError("a PROXY header that ends in a TLV")
        kind, length = _TLV.unpack_from(data)
        value = data[_TLV.size : _TLV.size + length]
        if len(value) < length:
            raise ProxyHeaderError("a PROXY header that ends in a TLV")
        yield kind, value
        data = data[_TLV.size + length :]


def _verify(data: bytes, begin: int, tlvs: tuple[tuple[int, bytes], ...]) -> None:
    """Verify the checksum, if there is one: of the whole header, with zeros in its place."""
    place = _PREAMBLE.size + begin
    for kind, value in tlvs:
        place += _TLV.size
        if kind == Tlv.CRC32C:
            whole = data[:place] + bytes(len(value)) + data[place + len(value) :]
            if value != crc32c(whole).to_bytes(4, "big"):
                raise ProxyHeaderError("a PROXY header with a wrong checksum")
        place += len(value)


def _ssl(value: bytes) -> ProxySsl:
    if len(value) < _SSL.size:
        raise ProxyHeaderError("a PROXY header that ends in a TLV")
    client, verify = _SSL.unpack_from(value)
    texts = {kind: text.decode("utf-8", "replace") for kind, text in _tlvs(value[_SSL.size :])}
    return ProxySsl(client, not verify and bool(client & 0b110), texts)


def _table() -> Iterator[int]:
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # noqa: PLW2901  -- it is shifted out
        yield byte


_CRC32C: Final = tuple(_table())
"""Castagnoli's polynomial, reflected (RFC 3385, RFC 9260 appendix A)."""


def crc32c(data: bytes) -> int:
    """Return the CRC32C of `data`."""
    rest = 0xFFFFFFFF
    for byte in data:
        rest = rest >> 8 ^ _CRC32C[(rest ^ byte) & 0xFF]
    return rest ^ 0xFFFFFFFF


def encode_v1(source: Address | None, destination: Address | None) -> bytes:
    """Return a header of version 1; for what it has no words for, UNKNOWN."""
    if not isinstance(source, tuple) or not isinstance(destination, tuple):
        return b"PROXY UNKNOWN\r\n"
    one, other = _hosts(source, destination)
    if one.version != other.version:
        return b"PROXY UNKNOWN\r\n"
    words = f"PROXY TCP{one.version} {one} {other} {source[1]} {destination[1]}\r\n"
    return words.encode("ascii")


def _hosts(*addresses: tuple[str, int]) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return their hosts without zones, which mean nothing elsewhere."""
    return [ipaddress.ip_address(host.partition("%")[0]) for host, _ in addresses]


def encode_v2(
    source: Address | None,
    destination: Address | None,
    *,
    datagram: bool = False,
    tlvs: Iterable[tuple[int, bytes]] = (),
) -> bytes:
    """Return a header of version 2, with a checksum; LOCAL if there is no source."""
    if source is None or destination is None:
        return _PREAMBLE.pack(SIGNATURE, 0x20, 0, 0)
    if isinstance(source, tuple) and isinstance(destination, tuple):
        one, other = _hosts(source, destination)
        layout, family = (_INET, 0x10) if one.version == 4 else (_INET6, 0x20)  # noqa: PLR2004  -- of IP
        body = layout.pack(one.packed, other.packed, source[1], destination[1])
    else:
        family = 0x30
        body = _UNIX.pack(*(_field(str(each)) for each in (source, destination)))
    body += b"".join(_TLV.pack(kind, len(value)) + value for kind, value in tlvs)
    body += _TLV.pack(Tlv.CRC32C, 4)
    kind = family | (2 if datagram else 1)
    head = _PREAMBLE.pack(SIGNATURE, 0x21, kind, len(body) + 4) + body
    return head + crc32c(head + bytes(4)).to_bytes(4, "big")


class ConnectedSocket(Protocol):
    """A socket that has a peer, of trio's too."""

    @property
    def type(self) -> int: ...
    def getsockname(self) -> Any: ...
    def getpeername(self) -> Any: ...


def encode_for(sock: ConnectedSocket, version: str) -> bytes:
    """Return a header "v1" or "v2" in which a socket speaks for its own address."""
    source, destination = _end(sock.getsockname()), _end(sock.getpeername())
    if version == "v1":
        return encode_v1(source, destination)
    return encode_v2(source, destination, datagram=sock.type == socket.SOCK_DGRAM)


def _end(address: Any) -> Address:
    """Return an address as it is here, from what a socket calls it."""
    if isinstance(address, tuple):
        return address[0], address[1]
    path: str = (
        address if isinstance(address, str) else address.decode(errors="surrogateescape")
    )
    return path.replace("\0", "@", 1)


def _field(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").replace(b"@", b"\0", path.startswith("@"))
