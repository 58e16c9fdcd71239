"""Addresses: the socket type of each kind of endpoint, and what the system calls a place."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from techo.endpoint import Kind, host_of

if TYPE_CHECKING:
    import trio

SOCKET_TYPES: Final = {
    Kind.TCP: socket.SOCK_STREAM,
    Kind.TLS: socket.SOCK_STREAM,
    Kind.MPTCP: socket.SOCK_STREAM,
    Kind.UDP: socket.SOCK_DGRAM,
    Kind.ICMP: socket.SOCK_DGRAM,
    Kind.IP: socket.SOCK_DGRAM,
    Kind.UNIX: socket.SOCK_STREAM,
    Kind.UNIXGRAM: socket.SOCK_DGRAM,
    Kind.UNIXPACKET: socket.SOCK_SEQPACKET,
}
"""Of every kind that can be connected to; for ICMP and IP what names are looked up for."""

Address: TypeAlias = str | tuple[Any, ...]
"""What `socket.connect` takes: a Unix path, or host, port and, of IPv6, flow and scope."""

Found: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of a look-up: family, type, protocol, canonical name and address."""


_HOST_BITS: Final = 64
"""Of an IPv6 address, which its host chooses as it likes (RFC 4291, 2.5.1)."""


def unix_address(path: str) -> str:
    """Return what the system calls `path`, which is abstract if it begins with @ (unix(7))."""
    return "\0" + path[1:] if path.startswith("@") else path


def text_of(address: Address | bytes) -> str:
    """Return an address as people write it: ``HOST:PORT``, ``[IPV6]:PORT``, a path or @NAME."""
    if isinstance(address, tuple):
        host, port = host_of(address), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(address, bytes):  # how the system reports an abstract name
        address = address.decode(errors="surrogateescape")
    return address.replace("\0", "@", 1)


def is_literal(host: str) -> bool:
    """Return whether `host` is an address already, so that there is nothing to look up."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return False
    return True


def interleaved(found: Sequence[Found]) -> list[Found]:
    """Return the results of a look-up in the order in which they are tried, each once.

    The families take turns, beginning with that of the first result (RFC 8305, section 4), so
    that a family that leads nowhere costs one attempt and not all of its addresses.
    """
    families: dict[int, list[Found]] = {}
    for each in dict.fromkeys(found):
        families.setdefault(each[0], []).append(each)
    turns = itertools.zip_longest(*families.values())
    return [each for turn in turns for each in turn if each is not None]


def network_of(host: str) -> str:
    """Return what counts as one host: an IPv4 address, or the /64 of an IPv6 one.

    Who has one address of a /64 has them all (RFC 6177); what is no address is itself.
    """
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    network = ipaddress.IPv6Address(int(address) >> _HOST_BITS << _HOST_BITS)
    return f"{network}%{address.scope_id or ''}/{_HOST_BITS}"


def peer_host(address: tuple[Any, ...]) -> str:
    """Return the host of a peer's address, with the zone where it has one.

    An IPv4 address loses the form that a dual-stack socket gives it (RFC 4291, 2.5.5.2).
    """
    host = str(address[0])
    # A dot and a colon together: worth a look, and no cost to all the others.
    if ":" in host and "." in host:
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        host = host if mapped is None else str(mapped)
    return host_of((host, *address[1:]))


def leads_to_itself(sock: socket.socket | trio.socket.SocketType, port: int) -> bool:
    """Return whether a socket that was to be connected to a port is connected to itself.

    The system may give a client the port that it connects to. Over TCP that is a simultaneous
    open (RFC 9293, 3.5): the socket receives what it sends, as from an echo server.
    """
    try:
        ours = sock.getsockname()
        return bool(ours[1] == port and ours == sock.getpeername())
    except OSError:  # it has ended already, and so it was a server's
        return False
