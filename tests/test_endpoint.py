"""Endpoints are read and written the same way round."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo import Endpoint
from techo._printable import quoted
from techo.endpoint import check_connectable, host_of

names = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,8})?", fullmatch=True)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
hosts = st.one_of(names, addresses, st.just("*"))
ports = st.integers(0, 65535)


paths = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=2, max_size=26)
endpoints = st.one_of(
    st.builds(Endpoint, hosts, ports, kind=st.sampled_from(["tcp", "tls", "mptcp", "udp"])),
    st.builds(Endpoint, hosts.filter(lambda host: not host.isdecimal()), kind=st.just("icmp")),
    st.builds(
        Endpoint,
        hosts.filter(lambda host: not host.isdecimal()),
        kind=st.just("ip"),
        protocol=st.integers(59, 254),
    ),
    st.builds(Endpoint, kind=st.sampled_from(["unix", "unixgram", "unixpacket"]), path=paths),
    st.builds(
        Endpoint,
        kind=st.sampled_from(["fd", "tls+fd"]),
        descriptor=st.integers(0, 10**9 - 1),
    ),
)


@given(endpoints)
def test_canonical_text_parses_back(endpoint: Endpoint) -> None:
    """The text of any endpoint, parsed, is that endpoint again."""
    assert Endpoint.parse(str(endpoint)) == endpoint
    assert str(Endpoint.parse(str(endpoint))) == str(endpoint)


@given(st.text())
def test_parse_gives_an_endpoint_or_a_value_error_with_the_text(text: str) -> None:
    """No text makes parse do anything but succeed or explain."""
    explanation = ""
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        explanation = str(error)
    assert quoted(text) in explanation or Endpoint.parse(str(endpoint)) == endpoint


@given(st.ip_addresses(v=6), ports)
def test_every_spelling_of_an_ipv6_address_is_one_endpoint(
    address: ipaddress.IPv6Address, port: int
) -> None:
    """Exploded and compressed forms, in any case, are equal."""
    assert Endpoint.parse(f"[{address.exploded.upper()}]:{port}") == Endpoint(
        str(address), port
    )


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("8009", "tcp://127.0.0.1:8009"),
        (":9000", "tcp://127.0.0.1:9000"),
        ("tcp://:9000", "tcp://127.0.0.1:9000"),
        ("localhost:80", "tcp://localhost:80"),
        ("LOCALHOST:80", "tcp://localhost:80"),
        ("[::1]:7", "tcp://[::1]:7"),
        ("[::1]", "tcp://[::1]:8009"),
        ("localhost", "tcp://localhost:8009"),
        ("127.0.0.1", "tcp://127.0.0.1:8009"),
        ("udp://echo.example", "udp://echo.example:8009"),
        ("*", "tcp://*:8009"),
        ("*:0", "tcp://*:0"),
        ("tcp://0.0.0.0:1", "tcp://0.0.0.0:1"),
        ("udp://9", "udp://127.0.0.1:9"),
        ("tls://Example.org:443", "tls://example.org:443"),
        ("unix:a b", "unix:a b"),
        ("unix:/run/x:1", "unix:/run/x:1"),
        ("unixgram:@name", "unixgram:@name"),
        ("fd:03", "fd:3"),
        ("tls+fd:03", "tls+fd:3"),
        ("[fe80::1%a+b]:7", "tcp://[fe80::1%a+b]:7"),
        ("icmp://LocalHost", "icmp://localhost"),
        ("icmp://[0::1]", "icmp://[::1]"),
        ("ip://127.0.0.1/0253", "ip://127.0.0.1/253"),
        ("ip://[fe80::1%lo]/254", "ip://[fe80::1%lo]/254"),
    ],
)
def test_short_forms(text: str, canonical: str) -> None:
    """Short forms mean tcp; no host means this machine only, and no port 8009."""
    assert str(Endpoint.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write tcp://HOST:PORT"),
        ("::1:8009", "write [::1]:8009, or [::1:8009] if all of it is the address"),
        ("tls://fe80::1%lo:8009", "write tls://[fe80::1%lo]:8009, or tls://[fe80::1%lo:8009]"),
        ("1:2:3:4:5:6:7:8:9", "write [1:2:3:4:5:6:7:8]:9"),
        ("::1", "write [::1], or [::1]:8009"),
        ("tcp:127.0.0.1:8009", "write tcp://127.0.0.1:8009"),
        ("udp:8009", "write udp://8009"),
        ("localhost 8009", "write localhost:8009"),
        ("/run/echo", "write unix:/run/echo, if it is a Unix socket's path"),
        ("@echo", "write unix:@echo, if it is a Unix socket's path"),
        ("unx:/run/echo", "unknown kind 'unx'; did you mean unix?"),
        ("ulp://localhost", "unknown kind 'ulp'; did you mean udp?"),
        ("localhost:", "the port is missing"),
        ("localhost:http", "port 'http' is not a number"),
        ("a b", "write tcp://HOST:PORT"),
        ("a/b", "write tcp://HOST:PORT"),
        ("tcp://", "write tcp://HOST:PORT"),
        ("host:-1", "port '-1' is not a number"),
        ("host:٣", "port '٣' is not a number"),
        ("host:65536", "port 65536 is not between 0 and 65535"),
        ("1234567", "port 1234567 is not between 0 and 65535"),
        ("[localhost]:1", "'localhost' is not an IPv6 address"),
        ("-x:1", "'-x' is neither a name"),
        ("a..b:1", "'a..b' is neither a name"),
        (f"{'a' * 64}.b:1", "is neither a name"),
        (f"{'a.' * 127}a:1", "is neither a name"),
        ("http://localhost:80", "unknown kind 'http'"),
        ("unix:", "is neither a printable path nor @ and a name"),
        ("unixpacket:@", "is neither a printable path nor @ and a name"),
        ("unix:a\nb", "is neither a printable path nor @ and a name"),
        ("unix:" + "é" * 54, "path of 108 bytes: a Unix socket's has 107 at most"),
        ("fd:-1", "write fd:N"),
        ("fd:x", "write fd:N"),
        ("fd:1234567890", "write fd:N"),
        ("tls+fd:x", "write tls+fd:N"),
        ("tls+fd://3", "write tls+fd:N"),
        ("tls:fd:3", "write tls+fd:3"),
        ("tls+df:3", "unknown kind 'tls+df'; did you mean tls+fd?"),
        ("tls+unix:/run/echo", "unknown kind 'tls+unix'; did you mean unix?"),
        ("a+b:3", "'a+b' is neither a name"),
        ("icmp://localhost:8009", "write icmp://HOST; ICMP has no ports"),
        ("icmp://8009", "write icmp://HOST; ICMP has no ports"),
        ("icmp://::1", "write icmp://[::1]"),
        ("icmp:localhost", "write icmp://localhost"),
        ("icmp:", "write icmp://HOST"),
        ("ip://127.0.0.1", "write ip://ADDRESS/PROTOCOL, as in ip://127.0.0.1/253"),
        ("ip://::1/253", "write ip://[::1]/253"),
        ("ip://127.0.0.1/udp", "protocol 'udp' is not a number"),
        ("ip://127.0.0.1/256", "protocol 256 is not between 0 and 255"),
        ("ip://127.0.0.1/1", "protocol 1 is ICMP: write icmp://HOST"),
        ("ip://127.0.0.1/2", "protocol 2 is IGMP"),
        ("ip://127.0.0.1/6", "protocol 6 is TCP: write tcp://HOST:PORT"),
        ("ip://127.0.0.1/17", "protocol 17 is UDP: write udp://HOST:PORT"),
        ("ip://[::1]/58", "protocol 58 is ICMPv6: write icmp://HOST"),
        ("ip://127.0.0.1/0", "protocol 0 is IPv6's own"),
        ("ip://127.0.0.1/255", "protocol 255 is reserved"),
        ("rdm:8009", "SOCK_RDM is TIPC's and RDS's only"),
        ("rdm://localhost:8009", "SOCK_RDM is TIPC's and RDS's only"),
    ],
)
def test_bad_texts_are_explained(text: str, reason: str) -> None:
    """An error names the text, what is wrong with it and what would be right."""
    with pytest.raises(ValueError, match="bad endpoint") as caught:
        Endpoint.parse(text)
    assert repr(text) in str(caught.value)
    assert reason in str(caught.value)


def test_a_bad_field_is_a_value_error() -> None:
    """Fields are checked without parse, too."""
    with pytest.raises(ValueError, match="port 70000"):
        Endpoint(port=70000)
    with pytest.raises(ValueError, match="'::g' is not an IPv6 address"):
        Endpoint("::g")
    with pytest.raises(ValueError, match="port '80'"):
        Endpoint(port="80")  # type: ignore[arg-type]  # a mistake that people make
    with pytest.raises(ValueError, match="host None"):
        Endpoint(None, 80)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"kind": "http"}, "unknown kind 'http'; there are tcp, tls, mptcp, udp"),
        ({"host": ""}, "host '': tcp needs a host"),
        ({"kind": "unix", "path": "x", "host": "localhost"}, "unix has no host"),
        ({"kind": "unix"}, "path ''"),
        ({"kind": "unix", "path": None}, "path None"),
        ({"path": "/x"}, "path '/x': tcp has no path"),
        ({"kind": "fd"}, "fd needs a descriptor; got None"),
        ({"kind": "tls+fd"}, "tls+fd needs a descriptor; got None"),
        ({"kind": "tls+fd", "host": "::1", "descriptor": 3}, "tls+fd has no host"),
        ({"kind": "tls", "descriptor": 3}, "tls has no descriptor; got 3"),
        ({"descriptor": 3}, "tcp has no descriptor; got 3"),
        ({"kind": "icmp", "port": 7}, "port 7: icmp has no ports"),
        ({"kind": "ip"}, "ip needs a protocol; got None"),
        ({"protocol": 253}, "tcp has no protocol; got 253"),
        ({"kind": "ip", "protocol": "253"}, "protocol '253' is not between 0 and 255"),
        ({"kind": "fd", "descriptor": -1}, "descriptor -1 is not a whole number"),
        ({"kind": "fd", "descriptor": "3"}, "descriptor '3' is not a whole number"),
    ],
)
def test_fields_must_fit_their_kind(fields: dict[str, Any], reason: str) -> None:
    """Each kind has its own, and no others."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        Endpoint(**fields)


def test_a_path_may_be_as_long_as_the_system_allows() -> None:
    """107 bytes, and as many behind the @ of an abstract name."""
    assert Endpoint.parse("unix:" + "x" * 107).path == "x" * 107
    assert Endpoint.parse("unix:@" + "x" * 107).path == "@" + "x" * 107
    with pytest.raises(ValueError, match="108 bytes"):
        Endpoint.parse("unix:@" + "x" * 108)


@pytest.mark.parametrize("zone", ["lo", "eth0.100", "br-1_a", "2"])
def test_zones_survive(zone: str) -> None:
    """Parsing and printing keep the zone of an address, in its own spelling."""
    endpoint = Endpoint.parse(f"[FE80:0::1%{zone}]:8009")
    assert endpoint.host == f"fe80::1%{zone}"
    assert str(endpoint) == f"tcp://[fe80::1%{zone}]:8009"
    assert Endpoint.parse(str(endpoint)) == endpoint


def test_an_address_of_the_system_s_is_shown_with_its_zone() -> None:
    """By the name of the interface, by its number if there is none any more, or without."""
    number = socket.if_nameindex()[0][0]
    named = f"fe80::1%{socket.if_indextoname(number)}"
    gone = 10**6
    assert host_of(("fe80::1", 8009, 0, number)) == named
    assert host_of(("fe80::1", 8009, 0, gone)) == f"fe80::1%{gone}"
    assert host_of(("::1", 8009, 0, 0)) == "::1"
    assert host_of(("127.0.0.1", 8009)) == "127.0.0.1"


@pytest.mark.parametrize("zone", ["", "a b", "a\n", "a/b", "a%b", "x" * 16, "\x1b"])
def test_a_zone_is_the_name_of_an_interface(zone: str) -> None:
    """Nothing else, which could forge a line of output."""
    with pytest.raises(ValueError, match="bad endpoint"):
        Endpoint.parse(f"[fe80::1%{zone}]:8009")


@pytest.mark.parametrize("target", [8009, None, b"127.0.0.1:8009"])
def test_what_is_no_endpoint_is_no_place_to_connect_to(target: Any) -> None:
    """Only a text or an endpoint is; the error shows how one is written."""
    with pytest.raises(TypeError, match="is no endpoint, as in 'tcp://"):
        check_connectable(target, None, None)
