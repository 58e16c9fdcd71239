"""The suite on datagrams: bad services, each rejected by the rule that it breaks."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE
from techo._checking.context import Context, Trace
from techo._checking.datagram_checks import open_prober
from techo._checking.suite import _find_anybody
from techo._transport.connect import connect
from techo._transport.transport import Transport
from techo.testing import Check, CheckReport, EchoServiceError, check_echo_service

Service = Callable[[bytes, Any], Iterable[bytes]]
"""What to answer to a datagram, and to whom it came from."""


def forgetful() -> Service:
    """Return a service that knows only the first of those who send to it."""
    known: set[Any] = set()

    def answer(data: bytes, sender: Any) -> list[bytes]:
        # Few sockets write before the check that opens many.
        if len(known) < 30:
            known.add(sender)
        return [data] if sender in known else []

    return answer


def lossy() -> Service:
    """Return a service that answers every third datagram only if it comes again."""
    lost: set[bytes] = set()
    number = itertools.count(1)

    def answer(data: bytes, _: Any) -> list[bytes]:
        if data in lost or next(number) % 3:
            return [data]
        lost.add(data)
        return []

    return answer


BAD: dict[str, tuple[Callable[[], Service], set[str]]] = {
    "cuts at 2,048": (lambda: lambda data, _: [data[:2048]], {"largest"}),
    "drops more than 9,000": (
        lambda: lambda data, _: [data] * (len(data) <= 9000),
        {"largest"},
    ),
    "drops empty ones": (lambda: lambda data, _: [data] * bool(data), {"empty"}),
    "answers twice": (lambda: lambda data, _: [data] * 2, {"one-reply"}),
    "adds an empty one": (lambda: lambda data, _: [data, b""], {"one-reply"}),
    "adds garbage before": (lambda: lambda data, _: [b"garbage", data], {"one-reply"}),
    "lines": (lambda: lambda data, _: [data.replace(b"\r\n", b"\n")], {"byte-values"}),
    "text": (lambda: lambda data, _: [data.replace(b"] ", b"]")], {"stamp-like"}),
    "lengthens": (lambda: lambda data, _: [data + b"\n"], {"1-byte", "1460-bytes"}),
    "knows few": (forgetful, {"many-at-once"}),
}


async def report_on(
    service: Service, *, elsewhere: bool = False, patience: float = 1.5
) -> CheckReport:
    """Return the suite's report on a service that answers datagrams."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as other:
            await other.bind(("127.0.0.1", 0))

            async def serve() -> None:
                while True:
                    data, sender = await sock.recvfrom(2**17)
                    for answer in service(data, sender):
                        with contextlib.suppress(OSError):  # too long, or nobody is there
                            await (other if elsewhere else sock).sendto(answer, sender)

            with trio.fail_after(PATIENCE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve)
                    port = sock.getsockname()[1]
                    try:
                        report = await check_echo_service(
                            f"udp://127.0.0.1:{port}", patience=patience, connections=40
                        )
                    except EchoServiceError as error:
                        report = error.report
                    nursery.cancel_scope.cancel()
    return report


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_service_is_rejected_by_the_rule_that_it_breaks(
    bad: str, patient_clock: trio.testing.MockClock
) -> None:
    """Other checks fail only if every echo is wrong."""
    service, expected = BAD[bad]
    report = await report_on(service())
    failed = {each.name for each in report.failed}
    assert expected <= failed
    if bad not in ("lengthens", "lines", "text"):
        assert failed == expected


async def test_answers_from_elsewhere_are_found(patient_clock: trio.testing.MockClock) -> None:
    """They are echoes all the same, but a connected client would never see them."""
    report = await report_on(lambda data, _: [data], elsewhere=True)
    (check,) = report.failed
    assert check.name == "reply-address"
    assert "not from" in check.evidence


async def test_a_lossy_network_is_no_bad_service(patient_clock: trio.testing.MockClock) -> None:
    """A datagram that is lost is sent again a few times."""
    assert (await report_on(lossy(), patience=4)).passed


def named(report: CheckReport, name: str) -> Check:
    """Return the check of that name."""
    return next(each for each in report.checks if each.name == name)


@pytest.mark.parametrize(
    ("bad", "size"), [("cuts at 2,048", 2048), ("drops more than 9,000", 9000)]
)
async def test_the_largest_that_comes_back_whole_is_found(
    bad: str, size: int, patient_clock: trio.testing.MockClock
) -> None:
    """It is found whether a larger one comes back cut or not at all."""
    evidence = named(await report_on(BAD[bad][0]()), "largest").evidence
    if size == 2048:
        assert "65,507 bytes came back cut to 2,048" in evidence
        assert f"whole has {size:,} bytes" in evidence
    else:
        assert evidence.startswith("no answer to 65,507 bytes; the largest")


async def test_nobody_there_is_an_os_error(patient_clock: trio.testing.MockClock) -> None:
    """It is a refusal where the system reports one, and a timeout elsewhere."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))
        endpoint = techo.Endpoint(port=sock.getsockname()[1], kind=techo.Kind.UDP)
        with pytest.raises(TimeoutError, match="no datagram was answered"):
            await check_echo_service(endpoint, patience=0.4)
    with pytest.raises(ConnectionRefusedError):
        await check_echo_service(endpoint)


async def test_an_unconnected_socket_shows_who_answers() -> None:
    """UDP and Unix datagrams both have one."""
    name = f"unixgram:@techo-prober-{os.getpid()}"
    async with techo.open_server("udp://127.0.0.1:0", name, reply=techo.raw) as server:
        for endpoint in server.endpoints:

            async def open_it(endpoint: techo.Endpoint = endpoint) -> Transport:
                return (await connect(endpoint)).transport

            context = Context(open_it, techo.raw, PATIENCE, 1)
            with trio.fail_after(PATIENCE):
                await _find_anybody(context)
                async with open_prober(context, Trace()) as prober:
                    answer = await prober.ask(b"hello, there")
                    assert answer is not None
                    assert answer.whole
                    assert answer.sender == context.place.expected
