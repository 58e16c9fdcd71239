"""icmp and ip endpoints where they are refused: by name, with the remedy, before anything."""

from __future__ import annotations

import pytest

import techo
from helpers import call
from techo.testing import check_echo_service

PORTLESS = ["icmp://127.0.0.1", "ip://127.0.0.1/253"]


@pytest.mark.parametrize("place", PORTLESS)
@pytest.mark.parametrize("command", ["load", "check", "talk"])
def test_only_ping_is_a_client_of_these(command: str, place: str) -> None:
    """Others say so."""
    kind = place.partition(":")[0]
    said = f"techo: can't connect to {place}: {kind} is for ping only\n"
    assert call(command, place) == (2, b"", said)


@pytest.mark.parametrize("place", PORTLESS)
async def test_only_ping_is_one_in_programs_too(place: str) -> None:
    """As a ValueError, before anything is sent."""
    with pytest.raises(ValueError, match="is for ping only"):
        await techo.load(place)
    with pytest.raises(ValueError, match="is for ping only"):
        await check_echo_service(place)
    with pytest.raises(ValueError, match="is for ping only"):
        async with techo.open_client(place):
            pass


@pytest.mark.parametrize("command", ["serve", "ping"])
def test_a_protocol_that_may_be_in_use_takes_an_option(command: str) -> None:
    """253 and 254 are for experiments, and nobody else's."""
    code, out, err = call(command, "ip://127.0.0.1/99")
    assert (code, out) == (2, b"")
    assert err == (
        "techo: ip://127.0.0.1/99: protocol 99 may be in use; take 253 or 254, which are for "
        "experiments, or --any-protocol\n"
    )


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("icmp://127.0.0.1", "the system answers ICMP; it is for ping"),
        ("ip://*/253", "name one address of this machine"),
        ("ip://0.0.0.0/253", "name one address of this machine"),
        ("ip://[::]/254", "name one address of this machine"),
    ],
)
async def test_what_cannot_be_served_is_refused(place: str, why: str) -> None:
    """It takes no privileges to find out."""
    with pytest.raises(ValueError, match=why):
        async with techo.open_server(place):
            pass


@pytest.mark.parametrize("place", PORTLESS)
def test_packets_without_ports_have_no_source_port(place: str) -> None:
    """The option is refused by its name."""
    code, _, err = call("ping", "--source", "127.0.0.1:7", place)
    assert (code, err) == (2, f"techo: --source: {place.partition(':')[0]} has no ports\n")


def test_there_is_no_rdm() -> None:
    """The tutorial names SOCK_RDM, which no IP or Unix socket is."""
    for text in ("rdm:8009", "rdm://127.0.0.1:8009"):
        code, _, err = call("ping", text)
        assert code == 2
        assert "SOCK_RDM is TIPC's and RDS's only, so there is no rdm" in err
