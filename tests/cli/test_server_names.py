"""Names that a server's certificate must have: checked first, compared without ornaments."""

from __future__ import annotations

import ssl

import pytest
import trustme

import techo
from helpers import call, trust
from techo.endpoint import certificate_name


@pytest.mark.parametrize("name", ["talk", "check", "ping", "load"])
@pytest.mark.parametrize("bad", [".x", "", ".", "a..b", "a" * 64, "a\nb"])
@pytest.mark.parametrize("endpoint", ["tls://127.0.0.1:1", "127.0.0.1:1"])
def test_a_bad_name_is_refused_before_anything_else(name: str, bad: str, endpoint: str) -> None:
    """By every command, with the same line, whatever else is wrong."""
    code, out, err = call(name, "--tls-ca", "/nowhere", "--tls-server-name", bad, endpoint)
    assert (code, out) == (2, b"")
    assert "argument --tls-server-name: " in err
    assert "is neither the name of a host nor an address" in err
    assert err.count("\n") == 1


def test_a_bad_name_in_the_environment_is_named() -> None:
    """By its variable."""
    code, _, err = call("ping", environment={"TECHO_TLS_SERVER_NAME": ".x"})
    assert code == 2
    assert "TECHO_TLS_SERVER_NAME=" in err


@pytest.mark.parametrize("bad", [".x", ""])
async def test_a_bad_name_is_a_value_error_before_connecting(bad: str) -> None:
    """In the library, too, from every function that takes one."""
    target = "tls://127.0.0.1:1"
    with pytest.raises(ValueError, match="server name"):
        techo.ping(target, server_name=bad)
    with pytest.raises(ValueError, match="server name"):
        await techo.load(target, server_name=bad)
    with pytest.raises(ValueError, match="server name"):
        async with techo.open_client(target, server_name=bad):
            pass


@pytest.mark.parametrize(
    ("name", "compared"),
    [
        ("echo.example.", "echo.example"),
        ("echo.example", "echo.example"),
        ("fe80::1%eth0.100", "fe80::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("käse.example", "käse.example"),
    ],
)
def test_what_is_compared(name: str, compared: str) -> None:
    """RFC 6066, 3: no final dot; a zone says nothing outside of this machine."""
    assert certificate_name(name) == compared


async def test_a_final_dot_is_no_part_of_the_name(
    server_tls: ssl.SSLContext, authority: trustme.CA
) -> None:
    """As RFC 6125 compares them."""
    context = trust(authority)
    async with techo.open_server("tls://127.0.0.1:0", tls=server_tls) as server:
        endpoint = server.endpoints[0]
        for name in (None, "localhost", "localhost."):
            async with techo.open_client(endpoint, tls=context, server_name=name) as client:
                assert (await client.round_trip(b"x")).reply.endswith(b"x")
