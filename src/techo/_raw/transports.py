"""Transports of packets without ports: ICMP's echo, and any protocol of IP."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from techo._kernel import icmp, ip
from techo._kernel.options import SocketOptionError, SocketOptions
from techo._kernel.packets import Packet
from techo._transport.messages import DatagramTransport
from techo._transport.transport import RECEIVE_SIZE
from techo.endpoint import Endpoint, Kind, host_of

Maker: TypeAlias = Callable[[SocketOptions, int, tuple[Any, ...]], DatagramTransport]
"""Opens a transport with these options, in a family, to an address.

Raises:
    OSError: this machine does not do that, or not for us, or there is no way to the address.
"""

_ANOTHER: Final = "127.0.0.2"
"""An address of this machine for a client whose own would be the server's: a raw socket hears
all that is sent to its address, what it sends itself too, and requests look as replies do."""

_LARGEST: Final[dict[int, int]] = {socket.AF_INET: 65_515, socket.AF_INET6: 65_535}
"""Bytes that a packet of IP carries: 65,535, in IPv4 less its header."""

_NO_PINGS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EPROTONOSUPPORT})
"""Why there may be no datagram socket of ICMP: who we are, or a kernel without them."""


class PortlessTransport(DatagramTransport):
    """A connected socket for packets without ports, in which messages may have headers."""

    def __init__(
        self,
        sock: socket.socket,
        address: tuple[Any, ...],
        layout: icmp.EchoFormat | ip.RawFormat | None,
        largest: int,
    ) -> None:
        """Take over a new socket and connect it; see `DatagramTransport`."""
        super().__init__(sock, address)
        self.address = host_of(address)
        self.packet_format = layout
        self.pumpable = layout is None
        self._largest = largest

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        if self.packet_format is not None:
            data = self.packet_format.framed(bytes(data))
        await super().send(data)

    async def receive(self, most: int = RECEIVE_SIZE) -> bytes:
        while True:
            data = await super().receive(most)
            if self.packet_format is None:
                return data
            payload = self.packet_format.payload_of(Packet(data))
            if payload is not None:
                return payload


def maker_for(endpoint: Endpoint) -> Maker | None:
    """Return what opens transports for an endpoint of these kinds; None of any other."""
    if endpoint.kind is Kind.ICMP:
        return open_icmp
    if endpoint.protocol is not None:
        return functools.partial(open_ip, endpoint.protocol)
    return None


def open_icmp(
    options: SocketOptions, family: int, address: tuple[Any, ...]
) -> DatagramTransport:
    """Open ICMP's echo to an address."""
    sock = _echo_socket(options, family)
    try:
        layout = icmp.EchoFormat(family, sock.type == socket.SOCK_RAW)
        return PortlessTransport(sock, address, layout, icmp.LARGEST[family])
    except BaseException:
        sock.close()
        raise


def _echo_socket(options: SocketOptions, family: int) -> socket.socket:
    """Open a datagram socket of ICMP where the system allows it, and else a raw one."""
    protocol = icmp.PROTOCOLS[family]
    try:
        return options.open(family, socket.SOCK_DGRAM, protocol)
    except OSError as error:
        if isinstance(error, SocketOptionError) or error.errno not in _NO_PINGS:
            raise
    sock = _raw_socket(options, family, protocol)
    icmp.let_replies_in(sock)
    return sock


def open_ip(
    protocol: int, options: SocketOptions, family: int, address: tuple[Any, ...]
) -> DatagramTransport:
    """Open a raw socket for packets of a protocol to an address."""
    sock = _ip_socket(protocol, options, family, address)
    try:
        layout = ip.RawFormat() if family == socket.AF_INET else None
        return PortlessTransport(sock, address, layout, _LARGEST[family])
    except BaseException:
        sock.close()
        raise


def _ip_socket(
    protocol: int, options: SocketOptions, family: int, address: tuple[Any, ...]
) -> socket.socket:
    """Open a raw socket whose packets leave from another address than that they go to."""
    sock = _raw_socket(options, family, protocol)
    try:
        if _source_to(options, family, address) == _bare(address):
            _leave_address(sock, options, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _leave_address(
    sock: socket.socket, options: SocketOptions, address: tuple[Any, ...]
) -> None:
    """Bind a socket to another address of this machine than the server's, which is here, too.

    Raises:
        SocketOptionError: there is none that would do.
    """
    if sock.family != socket.AF_INET or options.source is not None:
        words = f"a raw socket of {_bare(address)} hears its own packets"
        remedy = "take IPv4, or another address of this machine by --source"
        raise SocketOptionError.of(None, words, remedy)
    sock.bind((_ANOTHER, 0))


def _source_to(options: SocketOptions, family: int, address: tuple[Any, ...]) -> str:
    """Return the address from which packets to another would leave."""
    with options.open(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address[0], 1, *address[2:]))  # which sends nothing
        return _bare(probe.getsockname())


def _bare(address: tuple[Any, ...]) -> str:
    return str(address[0]).partition("%")[0]


def _raw_socket(options: SocketOptions, family: int, protocol: int) -> socket.socket:
    """Open a raw socket.

    Raises:
        SocketOptionError: that takes privileges; the remedy says which.
        OSError: the family is off.
    """
    with contextlib.suppress(PermissionError):
        return options.open(family, socket.SOCK_RAW, protocol)
    root = "run as root, or with CAP_NET_RAW"
    if protocol in icmp.PROTOCOLS.values():
        remedy = f"{root}, or let a group of yours in (sysctl net.ipv4.ping_group_range)"
        raise SocketOptionError.of(errno.EPERM, "ICMP takes privileges", remedy)
    raise SocketOptionError.of(errno.EPERM, "raw sockets take privileges", root)


def try_out(endpoint: Endpoint, options: SocketOptions) -> None:
    """Open a socket such as would connect to an endpoint, if it is of these, and close it.

    Raises:
        SocketOptionError: this machine does not do that, or not for us.
    """
    family, protocol = options.family_for(endpoint.host), endpoint.protocol
    try:
        if protocol is None:
            _echo_socket(options, family).close()
            return
        _raw_socket(options, family, protocol).close()
        found = socket.getaddrinfo(
            endpoint.host, None, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
        _ip_socket(protocol, options, family, found[0][4]).close()
    except SocketOptionError:
        raise
    except OSError:  # such as a name, which is looked up when it is connected to
        return
