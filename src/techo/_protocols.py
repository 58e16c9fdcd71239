"""The protocols of IP: which numbers a raw socket of ours may have, and which are others'."""

from __future__ import annotations

from typing import Final

from techo._printable import quoted

EXPERIMENTAL: Final = frozenset({253, 254})
"""Those for experiments (RFC 3692), which are nobody else's."""

ANY_PROTOCOL: Final = "--any-protocol"
"""The option that allows the others."""

_HIGHEST: Final = 255

_REFUSED: Final = {
    0: "IPv6's own",
    1: "ICMP: write icmp://HOST to ping",
    2: "IGMP, which is the system's",
    6: "TCP: write tcp://HOST:PORT",
    17: "UDP: write udp://HOST:PORT",
    58: "ICMPv6: write icmp://HOST to ping",
    _HIGHEST: "reserved, and nothing of it is received",
}
"""Those that no socket of ours may have, and what they are."""


def check_protocol(protocol: object) -> None:
    """Refuse what is no protocol, or is the system's.

    Raises:
        ValueError: the text has its number, and what would be right.
    """
    if not isinstance(protocol, int) or not 0 <= protocol <= _HIGHEST:
        raise ValueError(f"protocol {quoted(protocol)} is not between 0 and {_HIGHEST}")
    if protocol in _REFUSED:
        raise ValueError(f"protocol {protocol} is {_REFUSED[protocol]}")


def check_experimental(protocol: int | None, place: object) -> None:
    """Refuse what may be somebody's protocol; None is no raw socket's.

    Raises:
        ValueError: the text has the place, and what would be right.
    """
    if protocol is not None and protocol not in EXPERIMENTAL:
        raise ValueError(
            f"{place}: protocol {protocol} may be in use; take 253 or 254, which are for "
            f"experiments, or {ANY_PROTOCOL}"
        )
