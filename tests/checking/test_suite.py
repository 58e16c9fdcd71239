"""The suite as a whole: techo passes it on every kind of endpoint, and nonsense is refused."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
import trio.testing

import techo
import techo.testing
from helpers import PATIENCE, open_descriptors
from techo._checking.datagram_checks import DATAGRAM_CHECKS
from techo._checking.names import CHECK_NAMES
from techo._checking.stream_checks import STREAM_CHECKS
from techo.testing import Check, EchoServiceError, Verdict, check_echo_service


def test_every_check_has_its_name_in_the_list() -> None:
    """What can be skipped and completed is what is checked, in its order, and nothing else."""
    assert tuple(dict.fromkeys([*STREAM_CHECKS, *DATAGRAM_CHECKS])) == CHECK_NAMES


STAMPED = {techo.Kind.TCP, techo.Kind.UNIXPACKET, techo.Kind.UDP}
"""Kinds with a stamp in each reply; of streams and of datagrams there are others without."""


async def test_techo_passes(
    kind: techo.Kind,
    address: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    patient_clock: trio.testing.MockClock,
) -> None:
    """It does on every kind of endpoint, and the suite finds out which reply it gives."""
    seen: list[Check] = []
    before = await open_descriptors()
    reply = techo.stamped if kind in STAMPED else techo.raw
    async with techo.open_server(address, reply=reply, tls=server_tls) as server:
        with trio.fail_after(PATIENCE):
            report = await check_echo_service(
                server.endpoints[0],
                reply=None,
                connections=30,
                patience=PATIENCE,
                tls=client_tls if kind is techo.Kind.TLS else None,
                watch=seen.append,
            )
    assert report.passed
    assert report.reply is reply
    assert list(report.checks) == seen
    without = {"tls": 3, "tcp": 1, "unix": 1}.get(kind, 0)
    assert len(report.counted(Verdict.NOT_APPLICABLE)) == without
    assert await open_descriptors() == before


@pytest.mark.parametrize(
    ("wanted", "said", "evidence"),
    [
        (techo.raw, techo.stamped, "should be raw"),
        (techo.stamped, techo.raw, "should have one"),
    ],
)
@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"])
async def test_the_other_reply_is_no_echo(
    endpoint: str,
    wanted: techo.Reply,
    said: techo.Reply,
    evidence: str,
    patient_clock: trio.testing.MockClock,
) -> None:
    """A service that stamps fails where raw replies are wanted, and the reverse."""
    async with techo.open_server(endpoint, reply=said) as server:
        with trio.fail_after(PATIENCE), pytest.raises(EchoServiceError) as caught:
            await check_echo_service(
                server.endpoints[0], reply=wanted, connections=2, skip=["16-MiB"]
            )
    checks = {each.name: each for each in caught.value.report.checks}
    assert checks["1-byte"].verdict is Verdict.FAILED
    assert evidence in checks["1-byte"].evidence
    assert f"  1-byte: {checks['1-byte'].evidence}" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"reply": bytes.upper}, "neither raw, nor stamped"),
        ({"patience": 0}, "patience 0"),
        ({"patience": float("nan")}, "patience nan"),
        ({"connections": 0}, "connections 0"),
        ({"skip": ["no-such"]}, "no check 'no-such'; there are empty, 1-byte"),
        ({"server_name": "x"}, "is not tls"),
    ],
)
async def test_nonsense_is_a_value_error(
    arguments: dict[str, Any], match: str, patient_clock: trio.testing.MockClock
) -> None:
    """It is refused before anything is tried."""
    with pytest.raises(ValueError, match=match):
        await check_echo_service("127.0.0.1:9", **arguments)


async def test_what_watch_raises_comes_out_bare(patient_clock: trio.testing.MockClock) -> None:
    """The checks end there."""

    def watch(check: Check) -> None:
        raise LookupError(check.name)

    async with techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server:
        with pytest.raises(LookupError, match="empty"):
            await check_echo_service(server.endpoints[0], watch=watch)


async def test_tls_does_not_go_with_a_function(patient_clock: trio.testing.MockClock) -> None:
    """A function does its own TLS."""
    with pytest.raises(ValueError, match="not with a function"):
        await check_echo_service(trio.sleep_forever, server_name="x")


async def test_nobody_there_is_the_system_s_error(
    tmp_path: object, patient_clock: trio.testing.MockClock
) -> None:
    """The suite raises what any client would."""
    with pytest.raises(FileNotFoundError):
        await check_echo_service(f"unix:{tmp_path}/nobody")


async def test_who_never_lets_anybody_in_is_timed_out(autojump_clock: object) -> None:
    """The suite waits as long as a check may take."""
    with pytest.raises(TimeoutError, match="no connection within 5 s"):
        await check_echo_service(trio.sleep_forever, patience=5)


async def test_a_tls_server_that_says_nothing_was_reached(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, autojump_clock: object
) -> None:
    """It fails the checks, however short the patience is."""
    async with techo.open_server(
        "tls://127.0.0.1:0", tls=server_tls, faults=[techo.testing.NeverRead()]
    ) as server:
        with pytest.raises(EchoServiceError) as caught:
            await check_echo_service(server.endpoints[0], patience=1, tls=client_tls)
        assert "1-byte" in [each.name for each in caught.value.report.failed]
        await server.drain()


def test_the_public_names_are_sorted_and_documented() -> None:
    """Each name in `__all__` exists, too."""
    names = techo.testing.__all__
    assert names == sorted(names)
    assert all((getattr(techo.testing, name).__doc__ or "").strip() for name in names)
