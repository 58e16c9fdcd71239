"""Connecting instead of echoing: any server will do, and nothing is sent to it."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from typing import Any, NoReturn

import pytest
import trio
import trio.testing
import trustme

import techo
from helpers import PATIENCE, call, open_descriptors, serving, until_ended
from pings import see
from techo.testing import MemoryStream

QUICK: dict[str, Any] = {"interval": 0.01, "timeout": PATIENCE}
"""Nothing is late only because the machine is busy."""


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix", "unixpacket"])
async def test_each_probe_is_a_connection(
    kind: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Over tls with its handshake; it sends nothing, and leaves nothing behind."""
    tls = (server_tls, client_tls) if kind == "tls" else (None, None)
    place = f"{kind}:@techo-{id(tls)}" if kind.startswith("unix") else f"{kind}://127.0.0.1:0"
    async with techo.open_server(place, tls=tls[0]) as server:
        before = await open_descriptors()
        seen = await see(
            techo.ping(server.endpoints[0], count=3, connect=True, tls=tls[1], **QUICK)
        )
        statistics = await until_ended(server, 3)
        assert await open_descriptors() == before
    assert seen.words == "reply reply reply"
    assert (statistics.accepted, statistics.bytes_in) == (3, 0)
    assert {result.size for result in seen.results if isinstance(result, techo.PingReply)} == {
        0
    }
    found = seen.statistics
    assert (found.received, found.largest) == (3, None)
    steps = [found.setup[name].sum for name in ("connect", "handshake") if name in found.setup]
    assert len(steps) == 1 + (kind == "tls")
    assert found.latency.sum == pytest.approx(sum(steps), abs=10)
    assert (found.certificate_end is None) == (kind != "tls")


async def test_causes_are_those_of_connecting(
    techo_closed_port: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Refused, too slow, or no TLS; and probes do not wait for each other."""
    seen = await see(techo.ping(f"127.0.0.1:{techo_closed_port}", count=2, connect=True))
    assert seen.words == "refused refused"
    assert seen.statistics.never_reached
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"tls://127.0.0.1:{silent.getsockname()[1]}"
        seen = await see(techo.ping(target, count=3, connect=True, timeout=2.5))
    assert seen.told == [(1, "timeout-connect"), (2, "timeout-connect"), (3, "timeout-connect")]
    assert seen.times == pytest.approx([2.5, 3.5, 4.5])


async def test_a_function_of_one_s_own_may_connect() -> None:
    """What it raises that is not the network's ends the ping."""

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        return MemoryStream.pair()[0]

    async def fail() -> NoReturn:
        await trio.lowlevel.checkpoint()
        raise ExceptionGroup("it has a nursery", [LookupError("no such thing")])

    assert (
        await see(techo.ping(connect, count=2, connect=True, **QUICK))
    ).words == "reply reply"
    with pytest.raises(LookupError, match="no such thing"):
        await see(techo.ping(fail, count=2, connect=True, **QUICK))


def test_where_there_are_no_connections_it_is_refused() -> None:
    """Opening a socket for datagrams says nothing of a server."""
    with pytest.raises(ValueError, match=r"connecting to udp://.* shows nothing"):
        techo.ping("udp://8009", connect=True)
    assert "--connect sends nothing" in call("ping", "--connect", "-s", "9", "8009")[2]


def test_the_command_says_when_the_certificate_ends(
    authority: trustme.CA, tmp_path: Any
) -> None:
    """In the summary and for rules; one that has expired is seen with --tls-insecure."""
    end = dt.datetime.now(tz=dt.UTC) + dt.timedelta(days=9.5)
    good, bad = tmp_path / "good", tmp_path / "bad"
    authority.issue_cert(
        "127.0.0.1", not_after=end
    ).private_key_and_cert_chain_pem.write_to_path(str(good))
    authority.issue_cert(
        "127.0.0.1", not_before=end - dt.timedelta(99), not_after=end - dt.timedelta(days=20)
    ).private_key_and_cert_chain_pem.write_to_path(str(bad))
    once = ["--connect", "-n", "1", "--tls-insecure"]
    with serving("--tls-cert", str(good), "tls://127.0.0.1:0") as process:
        place = f"tls://127.0.0.1:{process.port}"
        code, out, err = call("ping", *once, "--fail-if", "certificate_days<10", place)
        assert f"the certificate ends on {end.date()}, in 9 days" in out.decode()
        assert (code, err) == (1, "techo: certificate_days<10: certificate_days was 9 days\n")
        code, out, _ = call("ping", *once, "--json", "--fail-if", "certificate_days<9", place)
        assert code == 0
        assert b'"days_left": 9' in out
    with serving("--tls-cert", str(bad), "tls://127.0.0.1:0") as process:
        code, out, _ = call("ping", *once, f"tls://127.0.0.1:{process.port}")
        assert (code, b"the certificate expired on " in out) == (0, True)


def test_the_hint_comes_by_itself() -> None:
    """It does when there is somebody, who does not echo."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = str(silent.getsockname()[1])
        code, _, err = call("ping", "-n", "1", "-W", "0.05", port)
    hint = "if that is no echo server, try --connect"
    assert (code, err) == (1, f"techo: none of 1 probe came back; {hint}\n")
