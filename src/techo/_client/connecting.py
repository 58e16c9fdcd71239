"""Connecting: from an endpoint of any kind to what carries round trips."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from typing import Final, TypeAlias

import trio

from techo._client.datagram_socket import DatagramSocket
from techo._packets import PacketStream
from techo.endpoint import EVERY_INTERFACE, Endpoint, Kind

Line: TypeAlias = trio.abc.Stream | DatagramSocket
"""What leads to a server: a connection, or a socket for datagrams."""

_TYPES: Final = {
    Kind.UNIX: socket.SOCK_STREAM,
    Kind.UNIXGRAM: socket.SOCK_DGRAM,
    Kind.UNIXPACKET: socket.SOCK_SEQPACKET,
}


def first_cause(error: OSError) -> OSError:
    """Find the error of the first address tried, where several are summed up in one."""
    below = error.__cause__
    while isinstance(below, ExceptionGroup):
        below = below.exceptions[0]
    return first_cause(below) if error.errno is None and isinstance(below, OSError) else error


def check_connectable(
    endpoint: Endpoint | str, tls: ssl.SSLContext | None, server_name: str | None
) -> Endpoint:
    """Give the endpoint that a client was asked to connect to, if one can.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to, or `tls` or
            `server_name` are given for one that is not tls.
    """
    if not isinstance(endpoint, Endpoint):
        endpoint = Endpoint.parse(endpoint)
    if endpoint.kind is not Kind.TLS and (tls is not None or server_name is not None):
        raise ValueError(f"{endpoint} is not tls, and takes neither tls nor server_name")
    if endpoint.kind is Kind.FD:
        raise ValueError(f"can't connect to {endpoint}: it is for servers; name what it is")
    if not endpoint.path and (endpoint.host == EVERY_INTERFACE or endpoint.port == 0):
        raise ValueError(
            f"can't connect to {endpoint}: * and port 0 are for servers; name host and port"
        )
    return endpoint


async def connect(
    endpoint: Endpoint | str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Line:
    """Connect to `endpoint`; what is given is the caller's to close.

    Of a name's addresses, tcp and tls try all as RFC 8305 does; udp takes the first that
    there is a way to, because a datagram does not tell whether anybody is there. Over tls
    the handshake is done, so that what is wrong with a certificate shows here.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to, or `tls` or
            `server_name` are given for one that is not tls.
        OSError: the name is unknown, nobody answers or, as `ssl.SSLError`, TLS fails.
    """
    endpoint = check_connectable(endpoint, tls, server_name)
    if endpoint.path:
        return await _connect_by_path(endpoint)
    if endpoint.kind is Kind.UDP:
        return await _connect_udp(endpoint)
    stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    _refuse_itself(stream.socket, endpoint)
    if endpoint.kind is Kind.TLS:
        return await shake_hands(
            stream, tls, endpoint.host if server_name is None else server_name
        )
    return stream


def _refuse_itself(sock: socket.socket | trio.socket.SocketType, endpoint: Endpoint) -> None:
    """Close a socket that is connected to itself, as if nobody had answered: nobody has.

    The system may give a client the very port it connects to, if that is of the range for
    clients. Over TCP this is a simultaneous open (RFC 9293, 3.5), and it echoes like a server.

    Raises:
        ConnectionRefusedError: it is.
    """
    if sock.getsockname()[1] != endpoint.port:
        return
    with contextlib.suppress(OSError):  # which has ended already, and so was a server's
        if sock.getsockname() == sock.getpeername():
            sock.close()
    if sock.fileno() < 0:
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


async def shake_hands(
    stream: trio.SocketStream, tls: ssl.SSLContext | None, server_name: str
) -> trio.SSLStream[trio.SocketStream]:
    """Begin TLS on a connection, which is closed if that fails or is cancelled.

    Raises:
        OSError: as `ssl.SSLError`, what is wrong; or how the connection broke.
    """
    try:
        # Not compatible with HTTPS, which may leave out the farewell: then the end of what was
        # said could be cut off unnoticed.
        secure = trio.SSLStream(
            stream, tls or ssl.create_default_context(), server_hostname=server_name
        )
        await secure.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        _raise_cause(error)
        raise
    return secure


def _raise_cause(error: BaseException) -> None:
    """Raise what a handshake broke from: all else that connecting fails with is an OSError."""
    if isinstance(error, trio.BrokenResourceError) and isinstance(error.__cause__, OSError):
        raise error.__cause__ from None


async def _connect_by_path(endpoint: Endpoint) -> Line:
    await trio.lowlevel.checkpoint()
    path = endpoint.path
    address = "\0" + path[1:] if path.startswith("@") else path
    sock = socket.socket(socket.AF_UNIX, _TYPES[endpoint.kind])
    try:
        if endpoint.kind is Kind.UNIXGRAM:
            sock.bind("")  # any free abstract name: who has none can't be answered
            return DatagramSocket.connected(sock, address)
        # There or not, it takes no time; with trio's connect, a server whose queue is full
        # would look like one that has accepted.
        sock.setblocking(False)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    ours = trio.socket.from_stdlib_socket(sock)
    return trio.SocketStream(ours) if endpoint.kind is Kind.UNIX else PacketStream(ours)


async def _connect_udp(endpoint: Endpoint) -> DatagramSocket:
    unreachable: OSError | None = None
    found = await trio.socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_DGRAM)
    for family, kind, _, _, address in found:
        try:
            sock = socket.socket(family, kind)
        except OSError as error:  # a family that is off
            unreachable = unreachable or error
            continue
        try:
            line = DatagramSocket.connected(sock, address)
            _refuse_itself(sock, endpoint)
        except OSError as error:
            sock.close()
            unreachable = unreachable or error
        else:
            return line
    assert unreachable is not None  # noqa: S101  -- getaddrinfo gives one at least
    raise unreachable
