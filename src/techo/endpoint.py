"""Endpoints: where a server listens or a client connects, parsed and printed."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Self

import attrs

DEFAULT_HOST = "127.0.0.1"
"""What an endpoint without a host means: nothing is reachable from outside unless told to."""

EVERY_INTERFACE = "*"
"""The host that means all interfaces, of IPv4 and of IPv6, on one port."""

_ADDRESS = re.compile(
    r"(?: (?P<host> \[ [^\]]+ \] | [^:\[\]/]* ) : )? (?P<port> [0-9]{1,5} )", re.VERBOSE
)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(
    rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?"
)  # RFC 1035, and the underscore
_HIGHEST_PORT = 65535


def _canonical_ipv6(address: str) -> str:
    try:
        return str(ipaddress.IPv6Address(address))
    except ValueError:
        raise ValueError(f"host {address!r} is not an IPv6 address") from None


def _canonical_host(host: Any) -> str:
    if host == EVERY_INTERFACE:
        return EVERY_INTERFACE
    if isinstance(host, str) and ":" in host:
        return _canonical_ipv6(host)
    if not isinstance(host, str) or not _NAME.fullmatch(host):
        raise ValueError(f"host {host!r} is neither a name, nor an address, nor *")
    return host.lower()


def _check_port(_self: object, _field: object, port: Any) -> None:
    if not isinstance(port, int) or not 0 <= port <= _HIGHEST_PORT:
        raise ValueError(f"port {port!r} is not between 0 and {_HIGHEST_PORT}")


@attrs.frozen
class Endpoint:
    """One place to listen on or to connect to.

    `str()` gives the canonical text, which `parse` takes back. Two endpoints that
    mean the same (``[0:0::1]:7`` and ``tcp://[::1]:7``) are equal.

    Raises:
        ValueError: a field makes no sense; the text names it and its value.
    """

    host: str = attrs.field(default=DEFAULT_HOST, converter=_canonical_host)
    """An IPv4 or IPv6 address (without brackets), a name to look up, or ``*``."""

    port: int = attrs.field(default=8009, validator=_check_port)
    """0 to 65535; to a server 0 means any free port."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``tcp://HOST:PORT``, ``HOST:PORT``, ``:PORT``, ``PORT`` or ``[IPV6]:PORT``.

        Raises:
            ValueError: naming the text, what is wrong with it and what would be right.
        """
        kind, separator, address = text.rpartition("://")
        if separator and kind != "tcp":
            raise ValueError(
                f"bad endpoint {text!r}: unknown kind {kind!r}; write tcp://HOST:PORT"
            )
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ValueError(
                f"bad endpoint {text!r}: write tcp://HOST:PORT, HOST:PORT or PORT, "
                "and an IPv6 address in brackets, as in [::1]:8009"
            )
        host = found["host"] or DEFAULT_HOST
        try:
            # Only IPv6 goes in brackets; looking it up as a name would hide the mistake.
            if host.startswith("["):
                host = _canonical_ipv6(host[1:-1])
            return cls(host, int(found["port"]))
        except ValueError as error:
            raise ValueError(f"bad endpoint {text!r}: {error}") from None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"
