"""Connecting: from an endpoint of any kind to a transport, with the time of each step."""

from __future__ import annotations

import enum
import errno
import functools
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any

import attrs
import trio

import techo._addresses as addresses
from techo._addresses import Address, Found
from techo._kernel import mptcp
from techo._kernel.options import DEFAULT_OPTIONS, SocketOptions
from techo._kernel.reports import reports_raised
from techo._proxy_header import encode_for
from techo._shortage import look_up, named, worst_first
from techo._transport.messages import DatagramTransport, PacketTransport
from techo._transport.racing import ATTEMPT_DELAY, RacingTransport
from techo._transport.streams import StreamTransport
from techo._transport.tls import TlsTransport
from techo._transport.transport import Transport
from techo.endpoint import Endpoint, Kind, certificate_name, check_connectable


class Step(enum.Enum):
    """The steps to a connection."""

    LOOKUP = "lookup"
    CONNECT = "connect"
    HANDSHAKE = "handshake"


@attrs.frozen
class ConnectTimes:
    """How long each step to a connection took, in seconds; None for what was not needed."""

    lookup: float | None  # of a name
    connect: float
    handshake: float | None  # of TLS


@attrs.frozen
class Connected:
    """A connection, or a connected socket for datagrams, which is the caller's to close."""

    transport: Transport
    times: ConnectTimes


@attrs.define(eq=False)
class Dial:
    """One attempt to connect, to be awaited; `step` shows how far it has come."""

    endpoint: Endpoint
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    options: SocketOptions = DEFAULT_OPTIONS
    make: Callable[[SocketOptions, int, tuple[Any, ...]], DatagramTransport] | None = None
    """What opens a transport to one address, for kinds that this room does not know."""
    find: Callable[..., Awaitable[list[Any]]] | None = None  # in place of `look_up`
    step: Step = attrs.field(default=Step.LOOKUP, init=False)

    def __await__(self) -> Generator[Any, Any, Connected]:
        return self.connect().__await__()

    async def connect(self) -> Connected:
        """Return the connection; see the function `connect`."""
        started, endpoint, lookup, handshake = trio.current_time(), self.endpoint, None, None
        transport: Transport
        if endpoint.path:
            return await self._by_path(endpoint)
        kind = addresses.SOCKET_TYPES[endpoint.kind]
        find, family = self.find or look_up, self.options.family
        found = await find(endpoint.host, endpoint.port, kind, family)
        if not addresses.is_literal(endpoint.host):
            lookup = _since(started)
        self.step, started = Step.CONNECT, trio.current_time()
        if endpoint.kind is Kind.UDP or self.make is not None:
            open_all = functools.partial(self._datagrams, addresses.interleaved(found))
            sockets = open_all()
            transport = sockets[0] if len(sockets) == 1 else RacingTransport(sockets, open_all)
            return Connected(transport, ConnectTimes(lookup, _since(started), None))
        sock, address = await _Race(endpoint, self.options).run(addresses.interleaved(found))
        connected = _since(started)
        transport = await self._introduced(StreamTransport(trio.SocketStream(sock)))
        if endpoint.kind is Kind.TLS:
            started = trio.current_time()
            transport = await self._secured(transport, endpoint.host)
            handshake = _since(started)
        transport.address = addresses.text_of(address)
        transport.multipath = endpoint.kind is Kind.MPTCP
        return Connected(transport, ConnectTimes(lookup, connected, handshake))

    async def _by_path(self, endpoint: Endpoint) -> Connected:
        """Connect to a Unix socket, which takes no time, whether a server is there or not."""
        self.step = Step.CONNECT
        await trio.lowlevel.checkpoint()
        started = trio.current_time()
        kind, address = endpoint.kind, addresses.unix_address(endpoint.path)
        sock = self.options.open(socket.AF_UNIX, addresses.SOCKET_TYPES[kind])
        transport: Transport
        try:
            if kind is Kind.UNIXGRAM:
                sock.bind("")  # any free abstract name: who has none can't be answered
                transport = DatagramTransport(sock, address)
            else:
                # Not by trio's connect, for which a server whose queue is full has accepted.
                sock.setblocking(False)
                sock.connect(address)
                ours = trio.socket.from_stdlib_socket(sock)
                if kind is Kind.UNIXPACKET:
                    transport = PacketTransport(ours)
                else:
                    transport = await self._introduced(StreamTransport(trio.SocketStream(ours)))
        except BaseException:
            sock.close()
            raise
        transport.address = endpoint.path
        return Connected(transport, ConnectTimes(None, _since(started), None))

    def _datagrams(self, found: Iterable[Found]) -> list[DatagramTransport]:
        """Open a socket for each address that there is a way to."""
        opened: list[DatagramTransport] = []
        failures: list[OSError] = []
        for family, kind, _, _, address in found:
            sock = None
            try:
                if self.make is not None:
                    opened.append(self.make(self.options, family, address))
                    continue
                sock = self.options.open(family, kind)
                datagrams = DatagramTransport(sock, address)
                if self.options.send_proxy is not None:
                    datagrams.introduce(encode_for(sock, self.options.send_proxy))
                _refuse_itself(sock, self.endpoint)
                opened.append(datagrams)
            except OSError as error:
                failures.append(named(error, family, address))
                if sock is not None:
                    sock.close()
        if not opened:
            raise worst_first(failures)[0]  # a look-up finds one address at least
        return opened

    async def _introduced(self, transport: StreamTransport) -> StreamTransport:
        """Send a PROXY header if that is asked for; close the connection if that fails."""
        if self.options.send_proxy is not None and transport.socket is not None:
            try:
                await transport.send(encode_for(transport.socket, self.options.send_proxy))
            except BaseException:
                await trio.aclose_forcefully(transport)  # noqa: ASYNC102  -- waits for nothing
                raise
        return transport

    async def _secured(self, below: Transport, host: str) -> Transport:
        try:
            name = certificate_name(host if self.server_name is None else self.server_name)
            context = self.tls or ssl.create_default_context()
            secure = TlsTransport(below, context, server_hostname=name)
        except BaseException:
            await trio.aclose_forcefully(below)  # noqa: ASYNC102  -- waits for nothing
            raise
        self.step = Step.HANDSHAKE
        return await shake_hands(secure)


async def shake_hands(transport: Transport) -> Transport:
    """Return `transport` after its handshake; close it if that fails (`OSError`)."""
    try:
        await transport.handshake()
    except trio.BrokenResourceError as error:
        await trio.aclose_forcefully(transport)
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
    except BaseException:
        await trio.aclose_forcefully(transport)  # noqa: ASYNC102  -- waits for nothing
        raise
    return transport


def _since(started: float) -> float:
    return trio.current_time() - started


@attrs.define(eq=False)
class _Race:
    """Happy eyeballs (RFC 8305): the first address that a connection is made to wins."""

    endpoint: Endpoint
    options: SocketOptions
    _failures: list[OSError] = attrs.Factory(list)
    _winner: tuple[trio.socket.SocketType, Address] | None = None

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
            where = addresses.text_of((self.endpoint.host, self.endpoint.port))
            message = f"all attempts to connect to {where} failed"
            raise OSError(message) from ExceptionGroup(message, worst_first(self._failures))
        _refuse_itself(self._winner[0], self.endpoint)
        return self._winner

    async def _attempt(self, each: Found, over: trio.Event, race: trio.CancelScope) -> None:
        family, kind, _, _, address = each
        try:
            multipath = self.endpoint.kind is Kind.MPTCP
            protocol = mptcp.protocol(family) if multipath else 0
            ours = self.options.open(family, kind, protocol)
            sock = trio.socket.from_stdlib_socket(ours)
            try:
                with reports_raised(ours):
                    await sock.connect(address)
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            self._failures.append(named(error, family, address))
            over.set()
            return
        if self._winner is None:
            self._winner = sock, address
            race.cancel(reason="connected to another address")
        else:
            sock.close()


def _refuse_itself(sock: socket.socket | trio.socket.SocketType, endpoint: Endpoint) -> None:
    """Close and refuse a socket that is connected to itself: no server has answered."""
    if addresses.leads_to_itself(sock, endpoint.port):
        sock.close()
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


async def connect(
    endpoint: Endpoint | str,
    *,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
    options: SocketOptions = DEFAULT_OPTIONS,
) -> Connected:
    """Connect to `endpoint`.

    A name's addresses are all tried as RFC 8305 does; over udp by the first datagrams, because
    connecting a datagram socket does not show whether a server is there. Over tls the handshake
    is done, so that what is wrong with a certificate shows here.

    Raises:
        ValueError: the text is no endpoint, or one that can't be connected to, or `tls` or
            `server_name` are given for one that is not tls, or `options` do not fit it.
        OSError: the name is unknown, no server answers or, as `ssl.SSLError`, TLS fails.
    """
    endpoint = check_connectable(endpoint, tls, server_name)
    options.check(endpoint)
    return await Dial(endpoint, tls, server_name, options)
