"""The suite on connections: bad services, each rejected by the rule that it breaks."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import pytest
import trio
import trio.testing

from helpers import PATIENCE, set_linger_zero
from techo._checking.names import CHECK_NAMES
from techo.reply import STAMP_LENGTH, stamps_in
from techo.testing import CheckReport, EchoServiceError, Verdict, check_echo_service

StreamT = TypeVar("StreamT", bound=trio.abc.HalfCloseableStream)

Handler = Callable[[trio.SocketStream], Awaitable[None]]

SLOW = {"16-MiB", "back-pressure"}
"""Checks that are done only for those that they should reject."""


async def good(stream: trio.abc.HalfCloseableStream) -> None:
    """Echo as the tutorial's loop does, and end cleanly."""
    async for chunk in stream:
        await stream.send_all(chunk)
    await stream.send_eof()


def changing(change: Callable[[bytes], bytes]) -> Handler:
    """Return a handler that changes each chunk."""

    async def handle(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            await stream.send_all(change(bytes(chunk)))
        await stream.send_eof()

    return handle


async def greeting(stream: trio.SocketStream) -> None:
    """Speak first, then echo."""
    await stream.send_all(b"welcome")
    await good(stream)


async def one_shot(stream: trio.SocketStream) -> None:
    """End after one chunk."""
    await stream.send_all(await stream.receive_some())


async def tiring(stream: trio.SocketStream) -> None:
    """End after two million bytes."""
    total = 0
    while total < 2_000_000 and (chunk := await stream.receive_some()):
        total += len(chunk)
        await stream.send_all(chunk)


async def forgetting_at_the_end(stream: trio.SocketStream) -> None:
    """Drop what was not sent yet when the peer finishes."""
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[bytes](4)

        async def answer() -> None:
            async for chunk in receive:
                await trio.testing.wait_all_tasks_blocked()  # the end may come before
                await stream.send_all(chunk)

        nursery.start_soon(answer)
        async for chunk in stream:
            await send.send(bytes(chunk))
        nursery.cancel_scope.cancel()
    await stream.send_eof()


async def endless(stream: trio.SocketStream) -> None:
    """Echo everything, and never end."""
    async for chunk in stream:
        await stream.send_all(chunk)
    await trio.sleep_forever()


async def resetting(stream: trio.SocketStream) -> None:
    """Reset instead of closing."""
    async for chunk in stream:
        await stream.send_all(chunk)
    await trio.sleep(0.1)  # the clock jumps when it was read, which a reset could overtake
    set_linger_zero(stream.socket)


async def boundless(stream: trio.SocketStream) -> None:
    """Take all there is, and keep it until it is read."""
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[bytes](math.inf)

        async def answer() -> None:
            async for chunk in receive:
                await stream.send_all(chunk)
            await stream.send_eof()

        nursery.start_soon(answer)
        async with send:
            async for chunk in stream:
                send.send_nowait(bytes(chunk))


def one_at_a_time() -> Handler:
    """Return a handler whose other peers have to wait."""
    lock = trio.Lock()

    async def handle(stream: trio.SocketStream) -> None:
        async with lock:
            await good(stream)

    return handle


def without_stamps(chunk: bytes) -> bytes:
    """Remove whatever looks like a stamp."""
    for start in reversed(stamps_in(chunk, 0, len(chunk))):
        chunk = chunk[:start] + chunk[start + STAMP_LENGTH :]
    return chunk


BAD: dict[str, tuple[Handler, set[str]]] = {
    "greets": (greeting, {"empty"}),
    "lengthens": (changing(lambda chunk: chunk + b"\n"), {"1-byte"}),
    "cuts at 1,024": (changing(lambda chunk: chunk[:1024]), {"1460-bytes"}),
    "seven bits": (changing(lambda chunk: bytes(b & 127 for b in chunk)), {"byte-values"}),
    "lines": (changing(lambda chunk: chunk.replace(b"\r\n", b"\n")), {"byte-values"}),
    "no stamps": (changing(without_stamps), {"stamp-like"}),
    "one shot": (one_shot, {"goes-on"}),
    "ends early": (tiring, {"16-MiB"}),
    "forgets": (forgetting_at_the_end, {"half-close"}),
    "never ends": (endless, {"half-close", "clean-close"}),
    "resets": (resetting, {"clean-close"}),
    "keeps all": (boundless, {"back-pressure"}),
    "one at a time": (one_at_a_time(), {"many-at-once"}),
}
"""For each of them the checks that must fail; other than those, only echoes of bytes may."""


async def report_on(
    handler: Handler, *, skip: Collection[str] = (), patience: float = 2.0
) -> CheckReport:
    """Return the suite's report on a handler that serves on a socket."""
    with trio.fail_after(100 * PATIENCE):
        async with trio.open_nursery() as nursery:
            serve = functools.partial(trio.serve_tcp, tolerant(handler), 0, host="127.0.0.1")
            (listener,) = await nursery.start(serve)

            async def connect() -> trio.SocketStream:
                return await trio.testing.open_stream_to_socket_listener(listener)

            try:
                report = await check_echo_service(
                    connect, connections=20, patience=patience, skip=skip
                )
            except EchoServiceError as error:
                report = error.report
                assert not report.passed
            nursery.cancel_scope.cancel()
    return report


def tolerant(
    handler: Callable[[StreamT], Awaitable[None]],
) -> Callable[[StreamT], Awaitable[None]]:
    """Return the same handler, for which a peer that leaves is no error."""

    async def handle(stream: StreamT) -> None:
        try:
            await handler(stream)
        except* trio.BrokenResourceError:
            pass

    return handle


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_service_is_rejected_by_the_rule_that_it_breaks(
    bad: str, patient_clock: trio.testing.MockClock
) -> None:
    """Other checks fail only where they see the same fault."""
    handler, expected = BAD[bad]
    report = await report_on(handler, skip=SLOW - expected)
    failed = {each.name for each in report.failed}
    assert expected <= failed
    exactness = {"1-byte", "1460-bytes", "64-KiB", "1-MiB", "byte-values", "stamp-like"}
    if not expected & exactness and bad not in ("one shot", "greets"):
        assert failed == expected
    assert all(each.evidence for each in report.checks)


async def test_a_good_service_passes_all_that_can_be_checked_on_it(
    patient_clock: trio.testing.MockClock,
) -> None:
    """The report has how much was sent and what came back."""
    report = await report_on(good, patience=PATIENCE)
    assert report.passed
    assert [each.name for each in report.counted(Verdict.NOT_APPLICABLE)] == ["message-bounds"]
    by_name = {each.name: each for each in report.checks}
    assert by_name["16-MiB"].sent == by_name["16-MiB"].received == 2**24
    assert set(by_name) <= set(CHECK_NAMES)


async def test_a_wrong_byte_is_found_where_it_is(patient_clock: trio.testing.MockClock) -> None:
    """The check has its offset, and the evidence names it."""
    # Flipped bits, because the byte is a random one and could be any other already.
    handler = changing(
        lambda chunk: chunk[:7] + bytes(each ^ 1 for each in chunk[7:10]) + chunk[10:]
    )
    report = await report_on(handler, skip=SLOW)
    check = next(each for each in report.failed if each.name == "1460-bytes")
    assert check.offset == 7
    assert "differs at offset 7" in check.evidence


async def test_nothing_hangs_on_a_silent_peer(patient_clock: trio.testing.MockClock) -> None:
    """One check waits for as long as it may; what depends on it is not tried."""

    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    started = trio.current_time()
    report = await report_on(silent, patience=0.3)
    assert trio.current_time() - started < 10
    assert [each.name for each in report.failed] == ["1-byte"]
    assert re.search("0.3 s: 1 byte sent, 0 received", report.failed[0].evidence)
    assert report.reply is not None  # what was asked for


async def test_a_dribbling_peer_is_not_waited_for_either(
    patient_clock: trio.testing.MockClock,
) -> None:
    """A check ends in time though something comes all the while."""

    async def dribbling(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            for start in range(len(chunk)):
                await stream.send_all(chunk[start : start + 1])
                await trio.sleep(0.1)  # of the clock, which jumps

    names = {"empty", "1-byte", "64-KiB"}
    report = await report_on(dribbling, patience=0.5, skip=set(CHECK_NAMES) - names)
    assert "64-KiB" in {each.name for each in report.failed}
    assert all(each.seconds < 2 for each in report.checks)


async def test_memory_streams_are_checked_as_sockets_are(
    patient_clock: trio.testing.MockClock,
) -> None:
    """Even lockstep streams work, which make a client wait."""
    async with trio.open_nursery() as nursery:

        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.lockstep_stream_pair()
            nursery.start_soon(tolerant(good), theirs)
            return ours

        report = await check_echo_service(connect, connections=5, skip=["16-MiB"])
        nursery.cancel_scope.cancel()
    assert report.passed
    (skipped,) = [each for each in report.checks if each.name == "16-MiB"]
    assert skipped.evidence == "not wanted"


async def test_connections_reset_all_at_once_are_one_failed_check(
    patient_clock: trio.testing.MockClock,
) -> None:
    """Stock inetd resets them so; the errors do not come out as a group."""
    count = 0

    async def resetting_many(stream: trio.SocketStream) -> None:
        nonlocal count
        count += 1
        try:
            if count > 5:  # of the checks that are not skipped, the last opens many
                await trio.sleep(0.01)  # the clock jumps when all of them are there
                set_linger_zero(stream.socket)
            else:
                await good(stream)
        finally:
            stream.socket.close()

    names = {"empty", "1-byte", "1460-bytes", "many-at-once"}
    report = await report_on(resetting_many, skip=set(CHECK_NAMES) - names)
    (failed,) = report.failed
    assert failed.name == "many-at-once"
    assert "the connection broke" in failed.evidence


async def test_what_speaks_first_to_many_at_once_is_one_failed_check(
    patient_clock: trio.testing.MockClock,
) -> None:
    """Each of them fails at the same time, and is cancelled because of the others."""
    for _ in range(3):
        report = await report_on(greeting, skip=set(CHECK_NAMES) - {"many-at-once"})
        (failed,) = report.failed
        assert "differs at offset" in failed.evidence


@pytest.mark.parametrize("good_ones", [0, 1, 5])
async def test_what_the_caller_s_function_raises_comes_out_bare(
    good_ones: int, patient_clock: trio.testing.MockClock
) -> None:
    """No check puts it into a group, not even the one that opens many."""
    async with trio.open_nursery() as nursery:
        count = 0

        async def connect() -> trio.abc.Stream:
            nonlocal count
            await trio.lowlevel.checkpoint()
            count += 1
            if count > good_ones:
                raise LookupError("mine")
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(tolerant(good), theirs)
            return ours

        names = {"empty", "1-byte", "1460-bytes", "many-at-once"}
        with pytest.raises(LookupError, match="mine"):
            await check_echo_service(connect, connections=5, skip=set(CHECK_NAMES) - names)
        nursery.cancel_scope.cancel()
