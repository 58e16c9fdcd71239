"""Networks: lists of addresses that may or may not, of which the most specific decides."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

from techo._printable import quoted

UNIX: Final = "unix"
"""What stands among networks for those who connect by a Unix socket."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


def read_network(text: str) -> Network:
    """Return the network that `text` names, such as ``192.0.2.0/24``, or one address.

    Raises:
        ValueError: it is none, or its address has bits beyond the length; the text has the
            remedy.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{quoted(text)} is no network: write 192.0.2.0/24, 2001:db8::/32 or an address"
        ) from None
    if str(network.network_address) != str(ipaddress.ip_address(text.partition("/")[0])):
        raise ValueError(f"{quoted(text)} names an address and a network: write {network}")
    return network


@attrs.define(eq=False)
class NetworkTable:
    """What holds for which network, found by the longest prefix."""

    _tables: dict[int, dict[int, dict[int, bool]]] = attrs.field(factory=dict)
    """By version of IP and by length of the prefix, the longest first: what each holds."""

    @classmethod
    def of(cls, allow: Iterable[Network], deny: Iterable[Network] = ()) -> NetworkTable:
        """Return one that is asked by `allows`; a network in both lists is denied."""
        found: dict[int, dict[int, dict[int, bool]]] = {}
        for networks, allowed in ((allow, True), (deny, False)):
            for each in networks:
                lengths = found.setdefault(each.version, {})
                of_length = lengths.setdefault(each.max_prefixlen - each.prefixlen, {})
                of_length[int(each.network_address) >> each.max_prefixlen - each.prefixlen] = (
                    allowed
                )
        return cls({version: dict(sorted(each.items())) for version, each in found.items()})

    def allows(self, host: str, *, otherwise: bool) -> bool:
        """Return what the most specific network of an address holds, or else `otherwise`.

        One of IPv4 that IPv6 has mapped is in the networks of IPv4.

        The cost is a look for each length of a prefix, however many networks there are.
        """
        given = ipaddress.ip_address(host.partition("%")[0])
        address = getattr(given, "ipv4_mapped", None) or given
        number = int(address)
        for shift, networks in self._tables.get(address.version, {}).items():
            allowed = networks.get(number >> shift)
            if allowed is not None:
                return allowed
        return otherwise
