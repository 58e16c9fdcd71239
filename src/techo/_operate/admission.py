"""Admission: who may have a connection, or an answer, by the address that is really theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import trio

from techo._addresses import network_of, peer_host, text_of
from techo._buckets import Buckets
from techo._kernel.datagram_sockets import Sender
from techo._operate.networks import UNIX, NetworkTable, read_network
from techo._proxy_header import LONGEST_V2, ProxyHeader, ProxyHeaderError, missing, parse, split
from techo._server.connection import UNKNOWN, Peer
from techo._server.hook import RefusedError, ServiceHook
from techo._transport.transport import Transport
from techo._validation import COUNT


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise ValueError(f"{texts!r} is one text: give a list of them")  # noqa: TRY004  -- a value
    return tuple(texts)


def _check_networks(_admission: object, field: Any, texts: tuple[str, ...]) -> None:
    for text in texts:
        try:
            if text != UNIX or field.name != "proxy_from":
                read_network(text)
        except ValueError as error:
            raise ValueError(f"{field.name} {error}") from None


@attrs.define(eq=False, kw_only=True)
class Admission(ServiceHook):
    """Lets in whom it should: by lists of networks, by rates, and behind trusted proxies.

    Networks are texts such as ``192.0.2.0/24``. The most specific one that an address is in
    decides, `deny` where it is in both lists. Peers without an address, as over Unix sockets
    or in memory, are in no network. All that is refused has the outcome `Outcome.REFUSED`, or
    for datagrams `DropReason.DENIED`.

    Raises:
        ValueError: a text is no network, or a rate makes no sense; the text names it.
    """

    allow: tuple[str, ...] = attrs.field(
        default=(), converter=_networks, validator=_check_networks
    )
    """If there are any, all else is denied."""
    deny: tuple[str, ...] = attrs.field(
        default=(), converter=_networks, validator=_check_networks
    )
    """These are refused, unless a more specific network is in `allow`."""
    proxy_from: tuple[str, ...] = attrs.field(
        default=(), converter=_networks, validator=_check_networks
    )
    """If there are any, every connection and datagram must come from there and begin with a
    PROXY header, whose source is who is let in. ``unix`` stands for Unix sockets."""
    max_connects_per_second: int | None = attrs.field(default=None, validator=COUNT.or_off())
    """For all together; after a pause, a second's worth may come at once."""
    max_connects_per_host: int | None = attrs.field(default=None, validator=COUNT.or_off())
    """The same for each address, or each /64 of IPv6, a second."""
    _access: NetworkTable = attrs.field(init=False)
    _proxies: NetworkTable = attrs.field(init=False)
    _rate: Buckets | None = attrs.field(init=False)
    _rates: Buckets | None = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._access = NetworkTable.of(
            *(map(read_network, each) for each in (self.allow, self.deny))
        )
        proxies = (each for each in self.proxy_from if each != UNIX)
        self._proxies = NetworkTable.of(map(read_network, proxies))
        total, each = self.max_connects_per_second, self.max_connects_per_host
        self._rate = None if total is None else Buckets(total)
        self._rates = None if each is None else Buckets(each)

    async def identify(self, transport: Transport, peer: Peer) -> Peer:
        """Return who is at the other end, behind a proxy too; see `ServiceHook.identify`.

        Raises:
            RefusedError: no connection is to be had.
            trio.BrokenResourceError: it is over already.
        """
        if peer.name == UNKNOWN:  # as HAProxy's health checks do
            raise trio.BrokenResourceError("it was reset before its address could be read")
        if self._rate is not None and not self._rate.admit(None, trio.current_time()):
            raise RefusedError(
                f"max-connects-per-second {self.max_connects_per_second} reached"
            )
        if self.proxy_from:
            self._check_proxy(peer.host, unix=peer.host is None)
            peer = _behind(await _receive_header(transport), peer)
        if peer.host is not None:
            self._check_access(peer.host)
            # A header may have taken its time, and others of this host may have come meanwhile.
            now, host = trio.current_time(), network_of(peer.host)
            if self._rates is not None and not self._rates.admit(host, now):
                raise RefusedError(
                    f"max-connects-per-host {self.max_connects_per_host} reached"
                )
        return peer

    def identify_datagram(self, data: memoryview, sender: Sender) -> tuple[memoryview, Sender]:
        """Return payload and source, behind a proxy too; see `ServiceHook.identify_datagram`.

        Raises:
            RefusedError: it is not to be answered.
        """
        internet = isinstance(sender, tuple)
        host = peer_host(sender) if internet else None
        if self.proxy_from:
            self._check_proxy(host, unix=not internet)
            try:
                header, size = split(bytes(data[:LONGEST_V2]))
            except ProxyHeaderError as error:
                raise RefusedError(str(error)) from None
            data = data[size:]
            if isinstance(header.source, tuple) and internet:
                sender = header.source
                host = sender[0]
        if host is not None:
            self._check_access(host)
        return data, sender

    def _check_proxy(self, host: str | None, *, unix: bool) -> None:
        known = UNIX in self.proxy_from if unix else host is not None
        if not known or (host is not None and not self._proxies.allows(host, otherwise=False)):
            raise RefusedError("no proxy of proxy-from")

    def _check_access(self, host: str) -> None:
        if not self._access.allows(host, otherwise=not self.allow):
            raise RefusedError("its address is not allowed")


async def _receive_header(transport: Transport) -> ProxyHeader:
    """Receive a PROXY header, and nothing behind it."""
    data = b""
    try:
        while most := missing(data):
            chunk = await transport.receive(most)
            if chunk is None and not data:  # a check of whether anybody listens
                return ProxyHeader(local=True)
            if chunk is None:
                raise RefusedError("the connection ended in its PROXY header")
            data += chunk
        return parse(data)
    except ProxyHeaderError as error:
        raise RefusedError(str(error)) from None


def _behind(header: ProxyHeader, proxy: Peer) -> Peer:
    """Return who a proxy says is behind it; itself, if it does not."""
    if header.source is None:
        return proxy
    if isinstance(header.source, tuple):
        host = peer_host(header.source)
        return Peer(text_of((host, header.source[1])), host)
    return Peer(f"unix:{header.source}")
