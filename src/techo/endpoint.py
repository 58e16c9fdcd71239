"""Endpoints: where a server listens or a client connects, parsed and printed."""

from __future__ import annotations

import enum
import ipaddress
import os
import re
import socket
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from techo._printable import did_you_mean, printable, quoted
from techo._protocols import check_protocol

if TYPE_CHECKING:
    import ssl

DEFAULT_PORT = 8009
"""What an endpoint without a port means: the tutorial's."""

DEFAULT_HOST = "127.0.0.1"
"""What an endpoint without a host means: reachable from this machine only."""

EVERY_INTERFACE = "*"
"""The host that means all interfaces, of IPv4 and of IPv6, on one port."""

LONGEST_PATH: Final = 107
"""Bytes in a Unix path or abstract name: `sun_path` has 108 (unix(7)), one of which is zero."""


class Kind(enum.StrEnum):
    """The kinds of endpoint, in Go's words where it has some."""

    TCP = "tcp"
    TLS = "tls"
    MPTCP = "mptcp"
    """TCP over several paths at once where both ends can (RFC 8684), and else plain TCP."""
    UDP = "udp"
    ICMP = "icmp"
    """The echo of ping(8), which the system of the other end answers: for clients only."""
    IP = "ip"
    """Packets of a protocol of their own, without ports (SOCK_RAW)."""
    UNIX = "unix"
    """A stream."""
    UNIXGRAM = "unixgram"
    """Datagrams."""
    UNIXPACKET = "unixpacket"
    """Connections that keep the boundaries of messages (SOCK_SEQPACKET)."""
    FD = "fd"
    """A socket inherited from the parent process, which has bound it."""
    TLS_FD = "tls+fd"
    """A TCP listener inherited likewise, which is served over TLS."""


_PORTS: Final = {Kind.TCP, Kind.TLS, Kind.MPTCP, Kind.UDP}
_HOSTS: Final = {*_PORTS, Kind.ICMP, Kind.IP}
_UNIX: Final = {Kind.UNIX, Kind.UNIXGRAM, Kind.UNIXPACKET}

PING_ONLY: Final = frozenset({Kind.ICMP, Kind.IP})
"""The kinds without ports, by which clients could not be told apart: but one can ping."""

INHERITED: Final = frozenset({Kind.FD, Kind.TLS_FD})
"""The kinds that are descriptors, which a server alone can have."""

SECURE: Final = frozenset({Kind.TLS, Kind.TLS_FD})
"""The kinds that need a certificate."""

CONNECTABLE_FORMS: Final = (
    "tcp://HOST:PORT (or tls, mptcp, udp), HOST:PORT, HOST, PORT, "
    "unix:PATH (or unixgram, unixpacket)"
)
"""What a client can connect to, for messages and help."""

_IP_FORM: Final = "ip://ADDRESS/PROTOCOL"
_IP_EXAMPLE: Final = f"{_IP_FORM}, as in ip://127.0.0.1/253"

PING_FORMS: Final = f"{CONNECTABLE_FORMS}, icmp://HOST, {_IP_FORM}"
"""What can be pinged, likewise."""

LISTENING_FORMS: Final = f"{CONNECTABLE_FORMS}, {_IP_FORM}, fd:N (or tls+fd)"
"""What can be served, likewise."""

FORMS: Final = f"{PING_FORMS}, fd:N (or tls+fd)"
"""What `Endpoint.parse` takes, likewise."""

_RDM: Final = "rdm"  # which the tutorial names

_ADDRESS = re.compile(
    r"(?: (?P<host> \[ [^\]]+ \] | [^:\[\]/]* ) : )? (?P<port> [0-9]+ )"
    r"| (?P<alone> \[ [^\]]+ \] | [^:\[\]/\s@] [^:\[\]/\s]* )",
    re.VERBOSE | re.ASCII,
)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(
    rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?"
)  # RFC 1035, and the underscore
_ZONE = re.compile(r"[A-Za-z0-9_.:@~+-]{1,15}")  # IFNAMSIZ, less the zero
_HIGHEST_PORT = 65535
_SCOPE: Final = 3
"""Where the system's IPv6 addresses have the number of an interface."""


def _canonical_ipv6(address: str) -> str:
    try:
        canonical = ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError(f"host {quoted(address)} is not an IPv6 address") from None
    if canonical.scope_id is not None and not _ZONE.fullmatch(canonical.scope_id):
        raise ValueError(f"host {quoted(address)} has a zone that is no interface's name")
    return str(canonical)


def _canonical_host(host: Any) -> str:
    if host in (EVERY_INTERFACE, ""):
        return str(host)
    if isinstance(host, str) and ":" in host:
        return _canonical_ipv6(host)
    if not isinstance(host, str) or not _NAME.fullmatch(host):
        raise ValueError(f"host {quoted(host)} is neither a name, nor an address, nor *")
    return host.lower()


def _kind(kind: Any) -> Kind:
    try:
        return Kind(kind)
    except ValueError:
        raise ValueError(f"unknown kind {quoted(kind)}; there are {', '.join(Kind)}") from None


def _check_port(endpoint: Endpoint, _field: object, port: Any) -> None:
    if not isinstance(port, int) or not 0 <= port <= _HIGHEST_PORT:
        raise ValueError(f"port {quoted(port)} is not between 0 and {_HIGHEST_PORT}")
    if bool(endpoint.host) != (endpoint.kind in _HOSTS):
        wanted = "needs a host" if not endpoint.host else "has no host"
        raise ValueError(f"host {endpoint.host!r}: {endpoint.kind} {wanted}")
    if port and endpoint.kind not in _PORTS:
        raise ValueError(f"port {port}: {endpoint.kind} has no ports")


def _check_protocol(endpoint: Endpoint, _field: object, protocol: Any) -> None:
    if (protocol is not None) != (endpoint.kind is Kind.IP):
        wanted = "needs a" if protocol is None else "has no"
        raise ValueError(f"{endpoint.kind} {wanted} protocol; got {quoted(protocol)}")
    if protocol is not None:
        check_protocol(protocol)


def _check_path(endpoint: Endpoint, _field: object, path: Any) -> None:
    if endpoint.kind not in _UNIX:
        if path:
            raise ValueError(f"path {quoted(path)}: {endpoint.kind} has no path")
        return
    # A line break in a path would forge a line of output; no server wants to be found by one.
    if not isinstance(path, str) or path in ("", "@") or not path.isprintable():
        raise ValueError(f"path {quoted(path)} is neither a printable path nor @ and a name")
    size = len(os.fsencode(path.removeprefix("@")))
    if size > LONGEST_PATH:
        raise ValueError(f"path of {size} bytes: a Unix socket's has {LONGEST_PATH} at most")


def _check_descriptor(endpoint: Endpoint, _field: object, descriptor: Any) -> None:
    if (descriptor is not None) != (endpoint.kind in INHERITED):
        wanted = "needs a" if descriptor is None else "has no"
        raise ValueError(f"{endpoint.kind} {wanted} descriptor; got {quoted(descriptor)}")
    if descriptor is not None and (not isinstance(descriptor, int) or descriptor < 0):
        raise ValueError(f"descriptor {quoted(descriptor)} is not a whole number from 0")


def _is_ipv6(address: str) -> bool:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def _unknown_kind(name: str) -> str:
    if name == _RDM:
        return "SOCK_RDM is TIPC's and RDS's only, so there is no rdm"
    return f"unknown kind {quoted(name)}{did_you_mean(name, Kind) or f'; write {FORMS}'}"


def _remedy(address: str, kind: str) -> str:
    """Return what to write instead of a kind with ``://``, or nothing, and such an address."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and _is_ipv6(host):
        also = f", or {kind}[{address}] if all of it is the address" * _is_ipv6(address)
        return f"write {kind}[{host}]:{port}{also}"
    if _is_ipv6(address):
        return f"write {kind}[{address}], or {kind}[{address}]:{DEFAULT_PORT}"
    name, _, rest = address.partition(":")
    if not kind and colon and name in _HOSTS:
        inherited = name in SECURE and rest.startswith(f"{Kind.FD}:")
        return f"write {name}{'+' if inherited else '://'}{printable(rest) or 'HOST'}"
    misspelt = not kind and did_you_mean(name, Kind) and rest[:1] in {*"/.@"} and rest
    if misspelt or (not kind and name == _RDM):
        return _unknown_kind(name)
    if not kind and address[:1] in {*"/.@"}:
        return f"write unix:{printable(address)}, if it is a Unix socket's path"
    words = address.split()
    if len(words) > 1 and words[1].isdecimal():
        return f"write {kind}{printable(words[0])}:{words[1]}"
    if colon and host and "/" not in address and ":" not in host:
        return f"port {quoted(port)} is not a number" if port else "the port is missing"
    return f"write {FORMS}, and an IPv6 address in brackets, as in [::1]:{DEFAULT_PORT}"


@attrs.frozen
class Endpoint:
    """One place to listen on or to connect to.

    `str()` gives the canonical text, which `parse` takes back. Two endpoints that
    mean the same (``[0:0::1]:7`` and ``tcp://[::1]:7``) are equal.

    Raises:
        ValueError: a field makes no sense; the text names it and its value.
    """

    kind: Kind = attrs.field(default=Kind.TCP, converter=_kind, kw_only=True)
    """Which kind of socket."""

    host: str = attrs.field(
        default=attrs.Factory(
            lambda self: DEFAULT_HOST if self.kind in _HOSTS else "", takes_self=True
        ),
        converter=_canonical_host,
    )
    """Of tcp, tls, mptcp, udp, icmp and ip: an IPv4 or IPv6 address (without brackets, maybe
    with a zone, as in ``fe80::1%eth0``), a name to look up, or ``*``. Of others: empty."""

    port: int = attrs.field(
        default=attrs.Factory(
            lambda self: DEFAULT_PORT if self.kind in _PORTS else 0, takes_self=True
        ),
        validator=_check_port,
    )
    """0 to 65535; to a server 0 means any free port. Of kinds without ports: 0."""

    path: str = attrs.field(default="", validator=_check_path, kw_only=True)
    """Of unix, unixgram and unixpacket: a path, or ``@`` and an abstract name (Linux), of 107
    bytes at most."""

    descriptor: int | None = attrs.field(
        default=None, validator=_check_descriptor, kw_only=True
    )
    """Of fd and tls+fd: the number of the file descriptor."""

    protocol: int | None = attrs.field(default=None, validator=_check_protocol, kw_only=True)
    """Of ip: its number, 253 or 254 unless you know who else uses it. Those of the system, such
    as TCP's, are refused."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an endpoint's text.

        That is ``KIND://HOST:PORT`` (tcp, tls, mptcp, udp), ``icmp://HOST``,
        ``ip://ADDRESS/PROTOCOL``, ``KIND:PATH`` (unix, unixgram, unixpacket; ``@NAME`` is an
        abstract name), ``KIND:N`` (fd, tls+fd), or short for tcp: ``HOST:PORT``, ``:PORT``,
        ``PORT``, ``[IPV6]:PORT``, ``HOST``, whose port is 8009.

        Raises:
            ValueError: naming the text, what is wrong with it and what would be right.
        """
        try:
            return cls._parse(text)
        except ValueError as error:
            raise ValueError(f"bad endpoint {quoted(text)}: {error}") from None

    @classmethod
    def _parse(cls, text: str) -> Self:
        name, colon, rest = text.partition(":")
        if colon and name in _UNIX:
            return cls(kind=Kind(name), path=rest)
        if colon and name in INHERITED:
            if not re.fullmatch("[0-9]{1,9}", rest):
                raise ValueError(f"write {name}:N, N being the number of a file descriptor")
            return cls(kind=Kind(name), descriptor=int(rest))
        name, separator, address = text.rpartition("://")
        kind = Kind.TCP
        if separator:
            if name not in _HOSTS:
                raise ValueError(_unknown_kind(name))
            kind = Kind(name)
        if kind not in _PORTS:
            return cls._parse_portless(kind, address)
        found = _ADDRESS.fullmatch(address)
        if found is None or (address == text and text.partition(":")[0] in {*_HOSTS, _RDM}):
            raise ValueError(_remedy(address, text.removesuffix(address)))
        host = found["host"] or found["alone"] or DEFAULT_HOST
        if "+" in host and not separator and did_you_mean(host, Kind):  # no name has it
            raise ValueError(_unknown_kind(host))
        # Only IPv6 goes in brackets; looking it up as a name would hide the mistake.
        if host.startswith("["):
            host = _canonical_ipv6(host[1:-1])
        return cls(host, int(found["port"] or DEFAULT_PORT), kind=kind)

    @classmethod
    def _parse_portless(cls, kind: Kind, address: str) -> Self:
        """Read what follows ``icmp://`` or ``ip://``."""
        host, slash, protocol = address.partition("/")
        if _is_ipv6(host):
            raise ValueError(f"write {kind}://[{host}]{slash}{protocol}")
        found = _ADDRESS.fullmatch(host)
        if found is None or found["port"] or bool(slash) != (kind is Kind.IP):
            form = "icmp://HOST; ICMP has no ports" if kind is Kind.ICMP else _IP_EXAMPLE
            raise ValueError(f"write {form}")
        host = found["alone"]
        if host.startswith("["):
            host = _canonical_ipv6(host[1:-1])
        if kind is Kind.ICMP:
            return cls(host, kind=kind)
        if not re.fullmatch("[0-9]{1,9}", protocol):
            raise ValueError(
                f"protocol {quoted(protocol)} is not a number; write {_IP_EXAMPLE}"
            )
        return cls(host, kind=kind, protocol=int(protocol))

    def __str__(self) -> str:
        if self.kind in INHERITED:
            return f"{self.kind}:{self.descriptor}"
        if self.kind in _UNIX:
            return f"{self.kind}:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.kind not in _PORTS:
            return f"{self.kind}://{host}" + f"/{self.protocol}" * (self.kind is Kind.IP)
        return f"{self.kind}://{host}:{self.port}"


def host_of(address: tuple[Any, ...]) -> str:
    """Return the host of an IP address, with the zone where it has one (RFC 4007, 11)."""
    host, zone = str(address[0]), address[_SCOPE] if len(address) > _SCOPE else 0
    if not zone:
        return host
    try:
        return f"{host}%{socket.if_indextoname(zone)}"
    except OSError:  # the interface is gone
        return f"{host}%{zone}"


def certificate_name(name: str) -> str:
    """Return the part of a host that a certificate can have (RFC 6066, 3, and RFC 6125).

    That is without a final dot and, of an address, without a zone.

    Raises:
        ValueError: it is neither a name nor an address.
    """
    bare = name.partition("%")[0] if ":" in name else name.removesuffix(".")
    try:
        fits = bare.isprintable() and bool(bare.encode("idna"))
    except UnicodeError:  # a label is empty or too long
        fits = False
    if not fits:
        raise ValueError(f"server name {quoted(name)} is neither a name nor an address")
    return bare


def check_connectable(
    endpoint: Endpoint | str,
    tls: ssl.SSLContext | None,
    server_name: str | None,
    *,
    pinging: bool = False,
) -> Endpoint:
    """Return the endpoint that a client was asked to connect to, if that is possible.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to, or `tls` or
            `server_name` are given for one that is not tls, or this is no name.
        TypeError: it is neither an endpoint nor a text.
    """
    if server_name is not None:
        certificate_name(server_name)
    if isinstance(endpoint, str):
        endpoint = Endpoint.parse(endpoint)
    elif not isinstance(endpoint, Endpoint):
        raise TypeError(f"{endpoint!r} is no endpoint, as in 'tcp://127.0.0.1:8009'")
    if endpoint.kind in INHERITED:
        raise ValueError(f"can't connect to {endpoint}: it is for servers; name what it is")
    if endpoint.kind is not Kind.TLS and (tls is not None or server_name is not None):
        raise ValueError(f"{endpoint} is not tls, and takes neither tls nor server_name")
    if endpoint.kind in PING_ONLY and not pinging:
        raise ValueError(f"can't connect to {endpoint}: {endpoint.kind} is for ping only")
    unknown = endpoint.kind in _PORTS and endpoint.port == 0
    if endpoint.host == EVERY_INTERFACE or unknown:
        raise ValueError(
            f"can't connect to {endpoint}: * and port 0 are for servers; name host and port"
        )
    return endpoint
