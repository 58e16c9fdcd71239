"""Endpoints are read and written the same way round."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from techo import Endpoint

names = st.from_regex(r"[a-z0-9_]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]{1,8})?", fullmatch=True)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
hosts = st.one_of(names, addresses, st.just("*"))
ports = st.integers(0, 65535)


@given(hosts, ports)
def test_canonical_text_parses_back(host: str, port: int) -> None:
    """The text of any endpoint, parsed, is that endpoint again."""
    endpoint = Endpoint(host, port)
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
    assert repr(text) in explanation or Endpoint.parse(str(endpoint)) == endpoint


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
        ("*:0", "tcp://*:0"),
        ("tcp://0.0.0.0:1", "tcp://0.0.0.0:1"),
    ],
)
def test_short_forms(text: str, canonical: str) -> None:
    """The short forms mean tcp, and no host means this machine only."""
    assert str(Endpoint.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "write tcp://HOST:PORT"),
        ("localhost", "write tcp://HOST:PORT"),
        ("::1:8009", "in brackets"),
        ("host:-1", "write tcp://HOST:PORT"),
        ("host:٣", "write tcp://HOST:PORT"),
        ("host:65536", "port 65536 is not between 0 and 65535"),
        ("[localhost]:1", "'localhost' is not an IPv6 address"),
        ("-x:1", "'-x' is neither a name"),
        ("a..b:1", "'a..b' is neither a name"),
        (f"{'a' * 64}.b:1", "is neither a name"),
        (f"{'a.' * 127}a:1", "is neither a name"),
        ("http://localhost:80", "unknown kind 'http'"),
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
