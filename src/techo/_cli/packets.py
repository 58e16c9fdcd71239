"""Packets: the options of every client command that are about its sockets and their packets."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Final

import attrs

from techo._addresses import SOCKET_TYPES
from techo._cli.options import Group, option, setter, switch
from techo._cli.readers import Form, checked, choice, count_form
from techo._kernel.dscp import DSCP_NAMES, read_dscp
from techo._kernel.options import DEFAULT_OPTIONS, INTERFACE, SocketOptionError, SocketOptions
from techo._printable import quoted
from techo._validation import whole
from techo.endpoint import Endpoint, Kind

_HIGHEST_PORT: Final = 65535


def read_source(text: str) -> tuple[str, int]:
    """Read ADDRESS or ADDRESS:PORT, an IPv6 address in brackets; the port is 0 without one.

    Raises:
        ValueError: it has the text, and what would be right.
    """
    right = "an address of this machine such as 192.0.2.7, [2001:db8::7] or 192.0.2.7:5000"
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "0"
    elif ":" in host and not host.startswith("["):
        raise ValueError(f"{quoted(text)} is ambiguous; write [{text}], or [{host}]:{port}")
    if not port.isdecimal() or not port.isascii() or int(port[:6]) > _HIGHEST_PORT:
        raise ValueError(
            f"{quoted(text)}: port {quoted(port)} is not from 0 to {_HIGHEST_PORT}"
        )
    bracketed = host.startswith("[") and host.endswith("]")
    address = host[1:-1] if bracketed else host
    try:
        found = SocketOptions(address)
    except ValueError:
        raise ValueError(f"{quoted(text)} is not {right}") from None
    if bracketed != (found.version == 6):  # noqa: PLR2004  -- of IP
        raise ValueError(f"{quoted(text)}: brackets are for IPv6, and it needs them")
    return address, int(port)


PACKETS: Final = Group(
    "Packets (tcp, tls, udp)",
    (
        Group(
            "",
            (
                switch("-4 --ipv4", "IPv4 only"),
                switch("-6 --ipv6", "IPv6 only"),
            ),
            exclusive=True,
        ),
        option(
            "--source",
            Form("ADDRESS[:PORT]", read_source),
            "where to connect from; a port only with one connection",
            shown="the system's choice",
        ),
        option(
            "--interface",
            Form("NAME", checked(str, INTERFACE)),
            "the network interface to use, whatever the routes",
            shown="by the routes",
        ),
        option(
            "--dscp",
            Form("DSCP", read_dscp, choices=lambda: DSCP_NAMES),
            "the class of service, 0 to 63 or a name such as EF, CS1, AF41",
            shown="DF, which is 0",
        ),
        option(
            "--ttl",
            count_form(whole(1, 255)),
            "hops after which packets are discarded, 1 to 255",
            shown="the system's, mostly 64",
        ),
        switch("--dont-fragment", "refuse packets that are too large for the way"),
        option(
            "--send-proxy",
            choice("v1", "v2"),
            "send a PROXY header first, as a proxy would (unix too); over udp before each "
            "datagram, v2 only",
            shown="none",
        ),
    ),
)
"""The options; `socket_options` has their values."""

_NAMES: Final = {"source_port": "source"}
"""What sets an option of sockets, where it has another name here."""


def socket_options(options: argparse.Namespace, connections: int = 1) -> SocketOptions:
    """Return what a command asks of its sockets, if that fits and this machine does it.

    Raises:
        ValueError: it names the option that does not fit or cannot be done, and why.
    """
    endpoint: Endpoint = options.endpoint
    found = fitting_options(options, connections)
    try:
        found.try_out(endpoint, SOCKET_TYPES[endpoint.kind])
        _try_out_raw(endpoint, found)
    except SocketOptionError as error:
        raise ValueError(f"{error.strerror}; {error.remedy}") from None
    return found


def fitting_options(options: argparse.Namespace, connections: int = 1) -> SocketOptions:
    """Return what is asked of sockets, if that fits; nothing is tried out.

    What only the environment asks for is left out where it is not about the endpoint at all.

    Raises:
        ValueError: it names the option that does not fit, and why.
    """
    endpoint: Endpoint = options.endpoint
    source, port = options.source or (None, 0)
    version = 4 if options.ipv4 else 6 if options.ipv6 else None
    try:
        found = SocketOptions(
            source,
            source_port=port,
            ip_version=version,
            interface=options.interface,
            dscp=options.dscp,
            ttl=options.ttl,
            dont_fragment=options.dont_fragment,
            send_proxy=options.send_proxy,
        )
    except ValueError as error:  # the rest was checked when it was read
        reason = str(error).partition(": ")[2]
        raise ValueError(f"{_written(options, 'ip_version')}: {reason}") from None
    given = {*options.given}
    if (
        not endpoint.host
        and not {_named(options, each) for each in found.about_packets} & given
    ):
        found = SocketOptions(send_proxy=found.send_proxy)
    misfit = found.misfit(endpoint, connections)
    if misfit is not None and misfit[0] == "send_proxy" and "send_proxy" not in given:
        found = attrs.evolve(found, send_proxy=None)
        misfit = found.misfit(endpoint, connections)
    if misfit is not None:
        raise ValueError(f"{_written(options, misfit[0])}: {misfit[1]}")
    return found


def _try_out_raw(endpoint: Endpoint, options: SocketOptions) -> None:
    """Have privileges missed now that some kinds take; see `techo._raw.transports.try_out`."""
    if endpoint.kind in (Kind.ICMP, Kind.IP):
        # Here, because it imports trio, for which --help should not wait.
        from techo._raw.transports import try_out

        try_out(endpoint, options)


def check_privileges(endpoints: Iterable[Endpoint]) -> None:
    """Refuse the first of many endpoints of a kind that this user may not probe.

    Raises:
        ValueError: which one, what is missing, and the remedy.
    """
    for endpoint in {each.kind: each for each in reversed([*endpoints])}.values():
        try:
            _try_out_raw(endpoint, DEFAULT_OPTIONS)
        except SocketOptionError as error:
            raise ValueError(f"{endpoint}: {error.strerror}; {error.remedy}") from None


def _named(options: argparse.Namespace, name: str) -> str:
    """Return the name that an option of sockets has on the command line."""
    if name == "ip_version":
        return "ipv4" if options.ipv4 else "ipv6"
    return _NAMES.get(name, name)


def _written(options: argparse.Namespace, name: str) -> str:
    """Return what has set an option of sockets, as the user knows it."""
    if name == "ip_version":
        written: str = options.variables.get(_named(options, name), "")
        return written or ("-4" if options.ipv4 else "-6")
    return setter(options, _NAMES.get(name, name))
