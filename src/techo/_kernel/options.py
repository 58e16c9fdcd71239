"""Socket options: what a client asks of its sockets before they connect."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Final

import attrs

from techo._kernel.dscp import read_dscp
from techo._printable import quoted
from techo._validation import FLAG, Requirement, whole

if TYPE_CHECKING:
    from techo.endpoint import Endpoint

LINUX: Final = hasattr(socket, "SO_BINDTODEVICE")
"""Whether this is the system whose numbers these are."""

_IP_MTU_DISCOVER: Final = 10  # linux/in.h
_IPV6_MTU_DISCOVER: Final = 23  # linux/in6.h
_ALWAYS: Final = 2  # IP_PMTUDISC_DO and IPV6_PMTUDISC_DO

_LONGEST_NAME: Final = 15  # IFNAMSIZ, less the zero

_VERSIONS: Final = {socket.AF_INET: 4, socket.AF_INET6: 6}
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}

_PACKETS: Final = (
    "ip_version",
    "source",
    "source_port",
    "interface",
    "dscp",
    "ttl",
    "dont_fragment",
)
"""The options that are about IP packets."""

_NOT_OF_MPTCP: Final = frozenset({"ttl", "dont_fragment"})

_UNSET: Final = {"source_port": 0, "dont_fragment": False}
"""What these are when nothing is asked for; None of all others."""


class SocketOptionError(OSError):
    """What a socket's options ask for cannot be had on this machine; `strerror` says what."""

    remedy = ""
    """What to do about it."""

    @classmethod
    def of(cls, number: int | None, words: str, remedy: str) -> SocketOptionError:
        """Return one of that number of the system's, in these words."""
        error = cls(number or errno.EINVAL, words)
        error.remedy = remedy
        return error


def _version_of(host: str) -> int | None:
    """Return the version of IP of an address; None of a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def _check_source(_options: object, _field: object, source: str | None) -> None:
    if source is not None and (type(source) is not str or _version_of(source) is None):
        raise ValueError(f"source {quoted(source)} is no IP address")


def _check_version(options: SocketOptions, _field: object, version: int | None) -> None:
    if version not in (None, 4, 6):
        raise ValueError(f"ip_version {version!r} is neither 4, nor 6, nor None")
    theirs = None if options.source is None else _version_of(options.source)
    if version is not None and theirs not in (None, version):
        raise ValueError(f"ip_version {version}: source {options.source} is IPv{theirs}")


def _dscp(value: int | str | None) -> int | None:
    if value is None:
        return None
    try:
        return read_dscp(str(value))
    except ValueError as error:
        raise ValueError(f"dscp {error}") from None


INTERFACE: Final = Requirement(
    "the name of a network interface",
    lambda name: type(name) is str and name.isprintable() and 0 < len(name) <= _LONGEST_NAME,
)
"""Whether there is one of that name, opening a socket shows."""


_BUFFER: Final = whole(1, 2**31 - 1)
"""What setsockopt(2) takes."""

PROXY_VERSION: Final = Requirement('"v1" or "v2"', lambda version: version in ("v1", "v2"))


@attrs.frozen(repr=False)
class SocketOptions:
    """What is asked of sockets before they connect; None leaves it to the system.

    All but the buffers are about IP packets, and so of no other endpoint than an internet one.

    Raises:
        ValueError: an option makes no sense; the text names it and its value.
    """

    source: str | None = attrs.field(default=None, validator=_check_source)
    """The IP address to connect from; addresses of the other version are not tried then."""
    source_port: int = attrs.field(default=0, kw_only=True, validator=whole(0, 65535))
    """The port to connect from, of which one connection alone can be; 0 is any free one."""
    ip_version: int | None = attrs.field(default=None, kw_only=True, validator=_check_version)
    """4 or 6: only such addresses are tried."""
    interface: str | None = attrs.field(
        default=None, kw_only=True, validator=INTERFACE.or_off()
    )
    """The network interface by which packets leave and come, whatever the routes (Linux)."""
    dscp: int | None = attrs.field(default=None, kw_only=True, converter=_dscp)
    """The class of service that packets ask for: 0 to 63, or a name such as "EF"."""
    ttl: int | None = attrs.field(default=None, kw_only=True, validator=whole(1, 255).or_off())
    """How many hops packets may make before a router discards them, 1 to 255."""
    dont_fragment: bool = attrs.field(default=False, kw_only=True, validator=FLAG)
    """Whether packets too large for the way are refused there, and not cut into fragments."""
    send_proxy: str | None = attrs.field(
        default=None, kw_only=True, validator=PROXY_VERSION.or_off()
    )
    """Send a PROXY header first, "v1" or "v2", with the two addresses of the connection; over
    udp before each datagram. (This is what is sent, and no option of a socket.)"""
    send_buffer: int | None = attrs.field(
        default=None, kw_only=True, validator=_BUFFER.or_off()
    )
    """Bytes of the system's buffer for what is sent."""
    receive_buffer: int | None = attrs.field(
        default=None, kw_only=True, validator=_BUFFER.or_off()
    )
    """Bytes of the system's buffer for what has come."""

    def __repr__(self) -> str:
        fields = attrs.fields(SocketOptions)
        found = {each.name: getattr(self, each.name) for each in fields}
        shown = [
            f"{each.name}={found[each.name]!r}"
            for each in fields
            if found[each.name] != each.default
        ]
        return f"SocketOptions({', '.join(shown)})"

    @property
    def version(self) -> int | None:
        """The version of IP that they are for; None if they are for both."""
        return self.ip_version or (None if self.source is None else _version_of(self.source))

    @property
    def family(self) -> int:
        """The same as a look-up of names takes it."""
        return _FAMILIES.get(self.version or 0, socket.AF_UNSPEC)

    def family_for(self, host: str) -> socket.AddressFamily:
        """Return the family of sockets to a host; IPv4's where both would do."""
        return _FAMILIES[self.version or _version_of(host) or 4]

    @property
    def about_packets(self) -> list[str]:
        """The names of those that are set and about IP packets."""
        return [name for name in _PACKETS if getattr(self, name) != _UNSET.get(name)]

    def misfit(self, endpoint: Endpoint | None, connections: int = 1) -> tuple[str, str] | None:
        """Return an option that does not fit, and why; None if all do.

        Without an endpoint it is a function that connects.
        """
        names = self.about_packets
        if names and endpoint is None:
            return names[0], "a function that connects makes its own sockets"
        if names and endpoint is not None and not endpoint.host:
            return names[0], f"{endpoint} has no IP packets"
        if endpoint is not None and endpoint.kind == "mptcp":
            for name in names:
                if name in _NOT_OF_MPTCP:
                    return name, "Linux has it not for MPTCP"
        if endpoint is not None and self.version is not None:
            theirs = _version_of(endpoint.host)
            if theirs not in (None, self.version):
                name = "source" if self.ip_version is None else "ip_version"
                return name, f"{endpoint} is IPv{theirs}"
        if self.send_proxy is not None and (misfit := self._proxy_misfit(endpoint)):
            return "send_proxy", misfit
        if self.source_port and (misfit := self._port_misfit(endpoint, connections)):
            return "source_port", misfit
        return None

    def _port_misfit(self, endpoint: Endpoint | None, connections: int) -> str:
        """Return why sockets to an endpoint cannot have the one port; empty if one can."""
        if endpoint is not None and endpoint.kind in ("icmp", "ip"):
            return f"{endpoint.kind} has no ports"
        if connections > 1:
            return f"a port is for one connection, and {connections} are wanted"
        return ""

    def _proxy_misfit(self, endpoint: Endpoint | None) -> str:
        """Return why no PROXY header can be sent to an endpoint; empty if one can."""
        if endpoint is None:
            return "a function that connects sends what it likes"
        if endpoint.kind not in ("tcp", "tls", "unix", "udp"):
            return f"{endpoint} is neither tcp, tls, unix nor udp"
        if endpoint.kind == "udp" and self.send_proxy == "v1":
            return f"{endpoint} has datagrams, for which there is only v2"
        return ""

    def check(self, endpoint: Endpoint | None, connections: int = 1) -> None:
        """Refuse options that do not fit; see `misfit`.

        Raises:
            ValueError: it names the option, and why it does not fit.
        """
        found = self.misfit(endpoint, connections)
        if found is not None:
            raise ValueError(f"{found[0]} {getattr(self, found[0])!r}: {found[1]}")

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Open a socket that they hold for.

        Raises:
            SocketOptionError: this machine does not do one of them.
            OSError: the family is off, or that of `source` is the other.
        """
        sock = socket.socket(family, kind, protocol)
        try:
            self._set(sock)
            if family in _VERSIONS:
                self._set_for_packets(sock)
                self._bind(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _set(self, sock: socket.socket) -> None:
        sizes = {socket.SO_SNDBUF: self.send_buffer, socket.SO_RCVBUF: self.receive_buffer}
        for option, size in sizes.items():
            if size is not None:
                sock.setsockopt(socket.SOL_SOCKET, option, size)

    def _set_for_packets(self, sock: socket.socket) -> None:
        six = sock.family == socket.AF_INET6
        if (self.dont_fragment or self.interface is not None) and not LINUX:
            what = "dont_fragment" if self.dont_fragment else "interface"
            raise SocketOptionError.of(None, f"{what} is for Linux", "do without")
        values = {
            "dscp": (socket.IPV6_TCLASS if six else socket.IP_TOS, (self.dscp or 0) << 2),
            "ttl": (socket.IPV6_UNICAST_HOPS if six else socket.IP_TTL, self.ttl or 0),
            "dont_fragment": (_IPV6_MTU_DISCOVER if six else _IP_MTU_DISCOVER, _ALWAYS),
        }
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        for name in [name for name in values if name in self.about_packets]:
            try:
                sock.setsockopt(level, *values[name])
            except OSError as error:  # as MPTCP has hardly any
                words = f"this machine does not know {name} of such a socket"
                raise SocketOptionError.of(error.errno, words, "do without it") from None
        if self.interface is not None:
            self._bind_to_interface(sock, self.interface)

    def _bind_to_interface(self, sock: socket.socket, name: str) -> None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(name))
        except PermissionError as error:
            words = f"interface {name} takes privileges"
            remedy = "run as root or with CAP_NET_RAW, or take --source"
            raise SocketOptionError.of(error.errno, words, remedy) from None
        except OSError as error:
            known = ", ".join(each for _, each in socket.if_nameindex())
            words = f"there is no interface {quoted(name)}"
            raise SocketOptionError.of(error.errno, words, f"there are {known}") from None

    def _bind(self, sock: socket.socket) -> None:
        if self.source is None and not self.source_port:
            return
        if self.source_port:
            # Or the port of a connection that is over could not be used again for a minute.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # By what is no look-up, and knows zones.
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV | socket.AI_PASSIVE
            port, kind = str(self.source_port), socket.SOCK_DGRAM
            found = socket.getaddrinfo(self.source, port, sock.family, kind, flags=flags)
            sock.bind(found[0][4])
        except socket.gaierror:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)) from None
        except OSError as error:
            raise self._unbound(error) from None

    def _unbound(self, error: OSError) -> OSError:
        """Return what is said of an address that the socket could not be bound to."""
        port, number = f"source port {self.source_port}", error.errno
        if number == errno.EACCES:
            return SocketOptionError.of(
                number, f"{port} takes privileges", "choose one from 1024"
            )
        if number == errno.EADDRINUSE and self.source_port:
            return SocketOptionError.of(number, f"{port} is in use", "choose another")
        if number == errno.EADDRNOTAVAIL:
            words = f"source {self.source} is no address of this machine"
            return SocketOptionError.of(number, words, "see ip address")
        return error

    def try_out(self, endpoint: Endpoint, kind: int) -> None:
        """Open a socket such as would connect to `endpoint`, and close it.

        Raises:
            SocketOptionError: this machine does not do one of them.
        """
        if not self.about_packets:
            return
        try:
            self.open(self.family_for(endpoint.host), kind).close()
        except SocketOptionError:
            raise
        except OSError:
            return  # which is not about them, and what connects will meet it


DEFAULT_OPTIONS: Final = SocketOptions()
"""Everything as the system does it."""
