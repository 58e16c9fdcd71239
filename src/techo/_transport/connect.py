"""Connecting: from an endpoint of any kind to a transport, with the time of each step."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any, Final, TypeAlias

import attrs
import trio

from techo._shortage import look_up, named, worst_first
from techo._transport import addresses
from techo._transport.addresses import SOCKET_TYPES, Address, Found, text_of
from techo._transport.messages import DatagramTransport, PacketTransport
from techo._transport.streams import StreamTransport, transport_of
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport
from techo.endpoint import Endpoint, Kind, certificate_name, check_connectable

ATTEMPT_DELAY: Final = 0.25
"""Seconds from one attempt to the next while none has failed (RFC 8305, section 5)."""


class Step(enum.Enum):
    """The steps to a connection."""

    LOOKUP = "lookup"
    CONNECT = "connect"
    HANDSHAKE = "handshake"


@attrs.frozen
class SocketOptions:
    """Settings of a socket before it connects; None leaves one to the system."""

    source: str | None = None
    """The address to connect from; addresses of the other family are not tried then."""
    send_buffer: int | None = None
    """Bytes."""
    receive_buffer: int | None = None
    """Bytes."""

    def open(self, family: int, kind: int) -> socket.socket:
        """Open a socket that they hold for.

        Raises:
            OSError: the family is off, or `source` is of the other, or no address of ours.
        """
        sock = socket.socket(family, kind)
        try:
            if self.send_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
            if self.receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
            if self.source is not None and family != socket.AF_UNIX:
                sock.bind((self.source, 0))
        except BaseException as error:
            sock.close()
            if isinstance(error, socket.gaierror):  # no look-up has failed
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)) from None
            raise
        return sock


@attrs.frozen
class ConnectTimes:
    """How long each step to a connection took, in seconds; None for what was not needed."""

    lookup: float | None
    """Of a name."""
    connect: float
    handshake: float | None
    """Of TLS."""


@attrs.frozen
class Connected:
    """A connection, or a connected socket for datagrams, which is the caller's to close."""

    transport: Transport
    address: str
    """Where it leads: ``HOST:PORT`` or a path; empty where only a function knows."""
    times: ConnectTimes


Connect: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]
"""An async function that connects."""


@attrs.define(eq=False)
class Dial:
    """One attempt to connect, to be awaited; `step` shows how far it has come."""

    target: Endpoint | Connect
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    options: SocketOptions = SocketOptions()
    step: Step = attrs.field(default=Step.LOOKUP, init=False)

    def __await__(self) -> Generator[Any, Any, Connected]:
        return self.connect().__await__()

    async def connect(self) -> Connected:
        """Do what `connect` says; a function may look up and do TLS by itself."""
        started, endpoint, lookup, handshake = trio.current_time(), self.target, None, None
        if not isinstance(endpoint, Endpoint):
            self.step = Step.CONNECT
            transport = await self._shake_hands(transport_of(await endpoint()))
            return Connected(transport, "", ConnectTimes(None, _since(started), None))
        if endpoint.path:
            return await self._by_path(endpoint)
        found = await look_up(endpoint.host, endpoint.port, SOCKET_TYPES[endpoint.kind])
        if not addresses.is_literal(endpoint.host):
            lookup = _since(started)
        self.step, started = Step.CONNECT, trio.current_time()
        if endpoint.kind is Kind.UDP:
            datagrams = self._datagrams(endpoint, found)
            times = ConnectTimes(lookup, _since(started), None)
            return Connected(datagrams, text_of(datagrams.address), times)
        sock, address = await _Race(endpoint, self.options).run(addresses.interleaved(found))
        connected = _since(started)
        transport = StreamTransport(trio.SocketStream(sock))
        if endpoint.kind is Kind.TLS:
            started = trio.current_time()
            transport = await self._secured(transport, endpoint.host)
            handshake = _since(started)
        return Connected(
            transport, text_of(address), ConnectTimes(lookup, connected, handshake)
        )

    async def _by_path(self, endpoint: Endpoint) -> Connected:
        """Connect to a Unix socket, which takes no time, whether a server is there or not."""
        self.step = Step.CONNECT
        await trio.lowlevel.checkpoint()
        started = trio.current_time()
        kind, address = endpoint.kind, addresses.unix_address(endpoint.path)
        sock = self.options.open(socket.AF_UNIX, SOCKET_TYPES[kind])
        transport: Transport
        try:
            if kind is Kind.UNIXGRAM:
                sock.bind("")  # any free abstract name: who has none can't be answered
                transport = DatagramTransport.connected(sock, address)
            else:
                # Not by trio's connect, for which a server whose queue is full has accepted.
                sock.setblocking(False)
                sock.connect(address)
                ours = trio.socket.from_stdlib_socket(sock)
                transport = (
                    PacketTransport(ours)
                    if kind is Kind.UNIXPACKET
                    else StreamTransport(trio.SocketStream(ours))
                )
        except BaseException:
            sock.close()
            raise
        times = ConnectTimes(None, trio.current_time() - started, None)
        return Connected(transport, endpoint.path, times)

    def _datagrams(self, endpoint: Endpoint, found: Iterable[Found]) -> DatagramTransport:
        """Take the first address that there is a way to: no datagram has been answered yet."""
        failures: list[OSError] = []
        for family, kind, _, _, address in found:
            sock = None
            try:
                sock = self.options.open(family, kind)
                datagrams = DatagramTransport.connected(sock, address)
                _refuse_itself(sock, endpoint)
            except OSError as error:
                failures.append(named(error, family, address))
                if sock is not None:
                    sock.close()
            else:
                return datagrams
        raise worst_first(failures)[0]  # a look-up finds one address at least

    async def _secured(self, below: Transport, host: str) -> Transport:
        name = certificate_name(host if self.server_name is None else self.server_name)
        try:
            context = self.tls or ssl.create_default_context()
            secure = TlsTransport(below, context, server_hostname=name)
        except ValueError:
            await trio.aclose_forcefully(below)
            raise
        return await self._shake_hands(secure)

    async def _shake_hands(self, transport: Transport) -> Transport:
        """Do the handshake; the transport is closed if that fails or is cancelled."""
        if transport.handshake_done:
            return transport
        self.step = Step.HANDSHAKE
        try:
            await transport.handshake()
        except BaseException as error:
            await trio.aclose_forcefully(transport)
            if not isinstance(error, trio.BrokenResourceError):
                raise
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            # All else that connecting raises is an OSError, too.
            raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
        return transport


def _since(started: float) -> float:
    return trio.current_time() - started


@attrs.define(eq=False)
class _Race:
    """Happy eyeballs (RFC 8305): the first address that a connection is made to wins."""

    endpoint: Endpoint
    options: SocketOptions
    _failures: list[OSError] = attrs.field(factory=list, init=False)
    _winner: tuple[trio.socket.SocketType, Address] | None = attrs.field(
        default=None, init=False
    )

    async def run(self, found: Iterable[Found]) -> tuple[trio.socket.SocketType, Address]:
        """Return a connected socket and its peer; all others are closed."""
        try:
            async with trio.open_nursery() as nursery:
                for each in found:
                    over = trio.Event()
                    nursery.start_soon(self._attempt, each, over, nursery.cancel_scope)
                    with trio.move_on_after(ATTEMPT_DELAY):
                        await over.wait()
        except BaseException:
            if self._winner is not None:
                self._winner[0].close()
            raise
        if self._winner is None:
            where = text_of((self.endpoint.host, self.endpoint.port))
            message = f"all attempts to connect to {where} failed"
            raise OSError(message) from ExceptionGroup(message, worst_first(self._failures))
        _refuse_itself(self._winner[0], self.endpoint)
        return self._winner

    async def _attempt(self, each: Found, over: trio.Event, race: trio.CancelScope) -> None:
        family, kind, _, _, address = each
        try:
            sock = trio.socket.from_stdlib_socket(self.options.open(family, kind))
            try:
                await sock.connect(address)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            self._failures.append(named(error, family, address))
            over.set()
            return None
        if self._winner is not None:
            return sock.close()
        self._winner = sock, address
        race.cancel(reason="connected to another address")
        return None


def _refuse_itself(sock: socket.socket | trio.socket.SocketType, endpoint: Endpoint) -> None:
    """Close and refuse a socket that is connected to itself: no server has answered.

    The system may give a client the very port that it connects to, if that is in the range for
    clients. Over TCP this is a simultaneous open (RFC 9293, 3.5), and it echoes like a server.
    """
    if sock.getsockname()[1] != endpoint.port:
        return
    with contextlib.suppress(OSError):  # which has ended already, and so was a server's
        if sock.getsockname() == sock.getpeername():
            sock.close()
    if sock.fileno() < 0:
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


async def connect(
    endpoint: Endpoint | str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = SocketOptions(),
) -> Connected:
    """Connect to `endpoint`.

    Of a name's addresses, tcp and tls try all as RFC 8305 does; udp takes the first that
    there is a way to, because connecting a datagram socket does not show whether a server is
    there. Over tls the handshake is done, so that what is wrong with a certificate shows here.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to, or `tls` or
            `server_name` are given for one that is not tls.
        OSError: the name is unknown, no server answers or, as `ssl.SSLError`, TLS fails.
    """
    endpoint = check_connectable(endpoint, tls, server_name)
    return await Dial(endpoint, tls, server_name, options)
