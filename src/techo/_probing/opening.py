"""Opening: connecting, with the time that each step of it takes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio

from techo._client.connecting import Line, check_connectable, connect, shake_hands
from techo._client.datagram_socket import DatagramSocket
from techo._packets import PacketStream, check_fits
from techo.endpoint import Endpoint, Kind


@attrs.frozen
class Setup:
    """How long each step to a connection took, in seconds; None for what was not needed."""

    lookup: float | None
    """Of a name."""
    connect: float
    handshake: float | None
    """Of TLS."""


Opener: TypeAlias = Callable[[], Awaitable[tuple[Line, Setup]]]
"""Opens a connection, or a socket for datagrams, which is the caller's to close."""

Target: TypeAlias = Endpoint | str | Callable[[], Awaitable[trio.abc.Stream]]
"""An endpoint, or an async function that connects."""


def opener(target: Target, tls: ssl.SSLContext | None, server_name: str | None) -> Opener:
    """Give what opens connections to `target`.

    A name is looked up each time; its addresses are tried in order, one after the other.

    Raises:
        ValueError: as `check_connectable`; a function that connects does its own TLS.
        TypeError: `target` is neither an endpoint nor a function.
    """
    if not isinstance(target, Endpoint | str):
        if not callable(target):
            raise TypeError(
                f"target {target!r} is no endpoint, as in 'tcp://127.0.0.1:8009', and no async "
                "function that connects"
            )
        if tls is not None or server_name is not None:
            raise ValueError(f"{name_of(target)} takes neither tls nor server_name")
        return lambda: _call(target)
    endpoint = check_connectable(target, tls, server_name)
    return lambda: _open(endpoint, tls, server_name)


async def close_unless_fits(line: Line, size: int) -> None:
    """Close what carries messages of their own, if those of `size` bytes are too large for it.

    Raises:
        ValueError: they are; it names the size and the limit.
    """
    if isinstance(line, DatagramSocket | PacketStream):
        try:
            check_fits(size, line.largest)
        except ValueError as error:
            await trio.aclose_forcefully(line)
            raise ValueError(f"size {size}: {error}") from None


def name_of(target: Target) -> str:
    """Give what reports call `target`."""
    if isinstance(target, str):
        target = Endpoint.parse(target)
    return str(target) if isinstance(target, Endpoint) else "a function that connects"


async def _call(target: Callable[[], Awaitable[trio.abc.Stream]]) -> tuple[Line, Setup]:
    started = trio.current_time()
    stream = await target()
    return stream, Setup(None, trio.current_time() - started, None)


async def _open(
    endpoint: Endpoint, tls: ssl.SSLContext | None, server_name: str | None
) -> tuple[Line, Setup]:
    started = trio.current_time()
    hosts = [endpoint.host]
    lookup = handshake = None
    if endpoint.host and not _is_address(endpoint.host):
        found = await trio.socket.getaddrinfo(
            endpoint.host, endpoint.port, type=socket.SOCK_STREAM
        )
        hosts = list(dict.fromkeys(str(address[0]) for *_, address in found))
        lookup = trio.current_time() - started
    begun = trio.current_time()
    line = await _connect_to_one(endpoint, hosts)
    connected = trio.current_time()
    if endpoint.kind is Kind.TLS:
        assert isinstance(line, trio.SocketStream)  # noqa: S101  -- which tcp gives
        line = await shake_hands(line, tls, server_name or endpoint.host)
        handshake = trio.current_time() - connected
    return line, Setup(lookup, connected - begun, handshake)


async def _connect_to_one(endpoint: Endpoint, hosts: list[str]) -> Line:
    kind = Kind.TCP if endpoint.kind is Kind.TLS else endpoint.kind
    failure: OSError | None = None
    for host in hosts:
        try:
            return await connect(attrs.evolve(endpoint, kind=kind, host=host))
        except OSError as error:
            failure = failure or error
    assert failure is not None  # noqa: S101  -- getaddrinfo gives one address at least
    raise failure


def _is_address(host: str) -> bool:
    """Whether there is nothing to look up."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return False
    return True
