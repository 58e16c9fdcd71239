"""Networks: the most specific decides, and what is none is refused with the remedy."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo._operate.networks import NetworkTable, read_network

NETWORKS = st.lists(
    st.builds(
        lambda host, length: str(ipaddress.ip_network((host, length), strict=False)),
        st.ip_addresses(network="10.0.0.0/12"),
        st.integers(8, 32),
    ),
    max_size=8,
)


@given(NETWORKS, NETWORKS, st.ip_addresses(network="10.0.0.0/12").map(str), st.booleans())
def test_the_most_specific_network_decides(
    allow: list[str],
    deny: list[str],
    host: str,
    otherwise: bool,  # noqa: FBT001  -- made by hypothesis
) -> None:
    """A look at every one of them says the same, and deny wins a tie."""
    table = NetworkTable.of(map(read_network, allow), map(read_network, deny))
    found = [
        (ipaddress.ip_network(each).prefixlen, not allowed, allowed)
        for networks, allowed in ((allow, True), (deny, False))
        for each in networks
        if ipaddress.ip_address(host) in ipaddress.ip_network(each)
    ]
    expected = max(found)[2] if found else otherwise
    assert table.allows(host, otherwise=otherwise) == expected


def test_each_version_of_ip_has_its_own() -> None:
    """An IPv6 address is in no IPv4 network, and its zone does not matter."""
    table = NetworkTable.of([read_network("0.0.0.0/0")], [read_network("fe80::/10")])
    assert table.allows("192.0.2.1", otherwise=False)
    assert not table.allows("fe80::1%eth0", otherwise=True)
    assert table.allows("2001:db8::1", otherwise=True)
    assert not table.allows("2001:db8::1", otherwise=False)


def test_an_address_that_is_mapped_is_the_one_of_ipv4() -> None:
    """Whichever way it is written, as a dual-stack proxy does."""
    table = NetworkTable.of([], [read_network("192.0.2.0/24")])
    for host in ("192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201"):
        assert not table.allows(host, otherwise=True)
    assert table.allows("::ffff:192.0.3.1", otherwise=True)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("example.org", "write 192.0.2.0/24, 2001:db8::/32 or an address"),
        ("10.0.0.0/33", "write 192.0.2.0/24"),
        ("", "write 192.0.2.0/24"),
    ],
)
def test_what_is_no_network_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    """The text has the bad value, and what would be right."""
    with pytest.raises(ValueError, match=remedy) as caught:
        read_network(text)
    assert repr(text)[1:-1] in str(caught.value)
