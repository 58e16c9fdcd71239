"""Load over sockets, by the pump and without: servers that are away, or take nothing."""

from __future__ import annotations

import itertools
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

import techo
from helpers import PATIENCE, trust, until
from loads import causes, check, faulty
from techo import load
from techo._load.tally import Tally
from techo._probing.drivers import driver_for
from techo._probing.in_flight import Run
from techo._probing.payloads import Payloads
from techo._probing.schedule import Schedule
from techo._transport.messages import DatagramTransport
from techo.testing import (
    NeverHandshake,
)

pytestmark = pytest.mark.usefixtures("conversation")


async def test_a_server_that_goes_away_and_comes_back(
    kind: techo.Kind,
    address: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """What was lost has a cause; every connection finds the new one."""
    tls = client_tls if kind is techo.Kind.TLS else None
    datagrams = kind in {techo.Kind.UDP, techo.Kind.UNIXGRAM}
    reports: list[techo.LoadReport] = []
    trips = 0

    def reply(chunk: bytes) -> bytes:
        nonlocal trips
        trips += 1
        return chunk

    async def wait_for_more_trips() -> None:
        before = trips
        await until(lambda: trips > before + 100)

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        async with faulty(address, reply=reply, tls=server_tls) as server:
            endpoint = server.endpoints[0]

            async def measure() -> None:
                # Only datagrams are waited for in vain; a handshake may take long.
                timeout = 0.5 if datagrams else PATIENCE
                options: dict[str, Any] = {"connections": 3, "timeout": timeout, "tls": tls}
                options |= {"seconds": PATIENCE, "watch": reports.append, "stop": stop}
                reports.append(await load(endpoint, **options))

            nursery.start_soon(measure)
            await wait_for_more_trips()
        await until(lambda: reports and reports[-1].failed)
        async with faulty(endpoint, reply=reply, tls=server_tls):
            await wait_for_more_trips()
            stop.set()
            await until(
                lambda: reports[-1].in_flight == 0 and (datagrams or reports[-1].reconnects > 0)
            )
    report = check(reports[-1])
    assert report.received > 200
    assert set(causes(report)) & {"refused", "eof", "reset", "timeout-reply"}
    possible = {"refused", "eof", "reset", "timeout-reply", "short"}
    assert set(causes(report)) <= possible
    assert (report.reconnects == 0) == datagrams  # their sockets connect to nobody
    assert not report.never_reached


async def test_a_server_that_takes_nothing_ends_the_load(tmp_path: Path) -> None:
    """Its queue is full, so that nothing can even be sent; and nobody waits for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{tmp_path}/s")
        with trio.fail_after(PATIENCE):
            report = check(
                await load(f"unixgram:{tmp_path}/s", connections=3, trips=10**6, timeout=0.02)
            )
    assert report.received == 0
    assert causes(report) == {"timeout-reply": report.lost}
    assert report.lost > 10


@pytest.mark.parametrize("warm_up", [0, 60])
@pytest.mark.parametrize("name", ["tcp", "udp", "unix", "unixgram", "dns", "way"])
async def test_where_nobody_is_nobody_is_reached(
    name: str, warm_up: float, techo_closed_port: int, tmp_path: Path
) -> None:
    """With the reason, also of a load that ends before it has begun to count."""
    target, cause = {
        "tcp": (f"127.0.0.1:{techo_closed_port}", "refused"),
        "udp": (f"udp://127.0.0.1:{techo_closed_port}", "refused"),
        "unix": (f"unix:{tmp_path}/none", "refused"),
        "unixgram": (f"unixgram:{tmp_path}/none", "refused"),
        "dns": ("no-such-host.invalid:1", "dns"),
        "way": ("udp://255.255.255.255:9", "local"),  # which the system forbids
    }[name]
    timeout = 0.2 if name == "udp" else PATIENCE  # a datagram more is sent until it is over
    with trio.fail_after(PATIENCE):
        report = check(await load(target, connections=2, warm_up=warm_up, timeout=timeout))
    assert report.never_reached
    assert set(causes(report)) == {cause}
    assert report.trips_per_second == 0


@pytest.mark.parametrize(("trusted", "cause"), [(False, "tls"), (True, "timeout-connect")])
async def test_tls_that_does_not_begin(
    trusted: bool,  # noqa: FBT001  -- a parameter of the test
    cause: str,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """With a certificate that nobody trusts, or no handshake at all."""
    stranger = trust(trustme.CA())
    faults = [NeverHandshake()] if trusted else []
    async with faulty("tls://127.0.0.1:0", *faults, tls=server_tls) as server:
        report = check(
            await load(
                server.endpoints[0],
                connections=2,
                timeout=0.2 if trusted else PATIENCE,
                tls=client_tls if trusted else stranger,
            )
        )
    assert report.never_reached
    assert causes(report) == {cause: 2}


async def test_what_can_not_be_sent_ends_the_connection(
    tmp_path: Path, conversation: str
) -> None:
    """At once, with the reason; what the pump has not even tried is for the next one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(f"{tmp_path}/s")
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        transport = DatagramTransport(ours, f"{tmp_path}/s")
    tally = Tally(lossy=True)
    schedule = Schedule(0.0, 0.0, 1e9, None, None)
    tally.run = run = Run(
        schedule, Payloads(64), itertools.repeat(64), 8, PATIENCE, tally, schedule.take
    )
    driver = driver_for(transport, run)
    with trio.fail_after(PATIENCE):
        ending = await driver.run()
        await driver.close()
    lost = 1 if conversation == "pump" else 8
    assert ending is not None
    assert ending.cause is techo.FailureCause.REFUSED
    assert dict(tally.failures) == {techo.FailureCause.REFUSED: lost}
    assert (tally.lost, run.in_flight, run.begun) == (lost, 0, lost)
