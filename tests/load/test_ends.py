"""Load in virtual time: how a load begins and ends, whatever happens."""

from __future__ import annotations

import errno
import math
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

import techo
from helpers import PATIENCE
from loads import causes, check, connecting
from techo._load import load as load_module
from techo.testing import (
    Delay,
    MemoryStream,
    Stall,
    open_memory_server,
)

Clock = trio.testing.MockClock


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), "refused", "connection refused"),
        (OSError(errno.ENETUNREACH, ""), "unreachable", "network is unreachable"),
        (OSError(errno.EACCES, ""), "local", "permission denied"),
        (socket.gaierror(socket.EAI_NONAME, "no such"), "dns", "unknown host (no such)"),
        (ssl.SSLError(1, "nonsense"), "tls", "TLS failed (nonsense)"),
        (trio.TooSlowError(), "timeout-connect", None),
    ],
    ids=repr,
)
@pytest.mark.parametrize("options", [{"trips": 5}, {"seconds": 1000}], ids=str)
async def test_a_server_that_nobody_reaches_is_never_reached(
    autojump_clock: Clock,
    options: dict[str, Any],
    error: Exception,
    cause: str,
    reason: str | None,
) -> None:
    """Each connection tries once, and that is it; the report says what the system said."""

    async def fail() -> MemoryStream:
        await trio.sleep(1)
        raise error

    report = check(await techo.load(fail, connections=3, **options))
    assert trio.current_time() == 1
    assert causes(report) == {cause: 3}
    assert report.reasons.get(techo.FailureCause(cause)) == reason
    assert report.never_reached
    assert (report.seconds, report.reconnects, report.loss) == (0, 0, None)


async def test_connecting_is_waited_for_as_long_as_a_reply(autojump_clock: Clock) -> None:
    """Then it counts as a timeout."""
    report = await techo.load(trio.sleep_forever, connections=2, timeout=7, trips=1)
    assert trio.current_time() == 7
    assert causes(check(report)) == {"timeout-connect": 2}
    assert report.never_reached


async def test_a_load_begins_when_every_connection_has_tried(autojump_clock: Clock) -> None:
    """However often one is refused meanwhile, another is waited for; then it is tried again."""
    calls = 0
    async with open_memory_server(faults=[Delay(0.5)]) as server:

        async def connect() -> MemoryStream:
            nonlocal calls
            calls += 1
            if calls == 1:
                await trio.sleep(3)
            elif trio.current_time() < 4:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "not yet")
            return await server.connect()

        report = check(await techo.load(connect, connections=2, seconds=10))
    assert 10 <= report.seconds < 10.5
    assert report.received > 20 + 15
    # With pauses of 10, 20, ... 640 ms and then 1 s.
    assert (causes(report), report.reconnects) == ({"refused": 10}, 0)


def away(nursery: trio.Nursery, end: float) -> Callable[[], Awaitable[MemoryStream]]:
    """Give what connects to a server that goes away after 4.25 s, until some time."""

    async def answer(stream: MemoryStream) -> None:
        gone = 4.25 if trio.current_time() < 4.25 else math.inf
        with trio.move_on_at(gone):
            while data := await stream.receive_some():
                await trio.sleep(0.5)
                await stream.send_all(data)

    connect = connecting(nursery, answer)

    async def try_to_connect() -> MemoryStream:
        if 4.25 <= trio.current_time() < end:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "away")
        return await connect()

    return try_to_connect


@pytest.mark.parametrize(
    ("options", "lasts", "unsent", "seconds"),
    [
        ({"seconds": 60.0}, 60.0, 0, 60),
        ({"trips": 100}, 4 + 10, 91, 14.52),
        ({"seconds": 60.0, "rate": 2.0}, 60 + 10, 111, 70),
        ({"trips": 100, "rate": 2.0}, 4 + 10, 91, 50),
    ],
    ids=str,
)
async def test_a_server_that_goes_away_for_ever_ends_the_load_in_time(
    autojump_clock: Clock, options: dict[str, Any], lasts: float, unsent: int, seconds: float
) -> None:
    """When the time is over; or, where that would never be, a timeout after it was heard of."""
    async with trio.open_nursery() as nursery:
        report = check(await techo.load(away(nursery, math.inf), connections=1, **options))
    assert lasts <= trio.current_time() <= lasts + 1  # between two attempts
    assert (report.received, report.lost) == (8, 1)
    assert report.seconds == pytest.approx(seconds)
    assert report.trips_per_second == pytest.approx(8 / seconds)
    assert report.longest_outage is not None
    assert (report.outages, report.longest_outage.until) == (1, None)
    # As long as anybody looked, though more may have been asked for.
    assert report.outage_seconds == pytest.approx(min(seconds, lasts) - 4, abs=1)
    assert causes(report) == {"eof": 1, "refused": sum(report.failures.values()) - 1}
    assert causes(report)["refused"] > 10
    assert report.unsent in (unsent, unsent + 1)
    assert not report.never_reached


async def test_a_server_that_comes_back_is_found_again(autojump_clock: Clock) -> None:
    """What was lost meanwhile was lost; after that everything is as it was."""
    async with trio.open_nursery() as nursery:
        report = check(await techo.load(away(nursery, 8), connections=2, seconds=20))
    # Connecting was tried 4.27 s later: after pauses of 10, 20, ... 640 ms, and 1 s thrice.
    assert report.seconds == pytest.approx(4.25 + 4.27 + 0.5 * 23)
    assert (report.received, report.lost, report.reconnects) == (2 * (8 + 23), 2, 2)
    assert causes(report) == {"eof": 2, "refused": 2 * 10}


async def test_a_server_that_halts_for_ever_ends_the_load(autojump_clock: Clock) -> None:
    """Some replies are waited for in vain, one after the other: the first may be chance."""
    async with open_memory_server(reply=techo.raw, faults=[Stall(64 * 3)]) as server:

        async def connect() -> MemoryStream:
            if server.statistics().accepted < 2:
                return await server.connect()
            return MemoryStream.pair()[0]

        report = check(await techo.load(connect, connections=1, trips=100, timeout=5))
    assert 10 <= trio.current_time() < 21
    assert (report.received, report.lost + report.unsent) == (6, 94)
    assert causes(report) == {"timeout-reply": report.lost}


async def test_a_connection_that_ends_between_two_trips_is_no_bad_sign(
    autojump_clock: Clock,
) -> None:
    """Nothing was due that it could have brought back, for far longer than a reply may take."""
    async with open_memory_server(limits=techo.Limits(idle_timeout=7)) as server:
        report = check(
            await techo.load(server.connect, connections=3, trips=10, rate=0.05, timeout=2)
        )
    assert (report.received, report.unsent, report.failures) == (10, 0, {})
    assert report.reconnects > 10


async def test_a_first_failure_after_a_long_while_is_not_the_end(
    autojump_clock: Clock,
) -> None:
    """What makes a load hopeless is not for how long nothing was due."""
    async with open_memory_server(reply=techo.raw, faults=[Stall(64 * 3)]) as server:
        report = check(
            await techo.load(server.connect, connections=1, trips=10, rate=0.05, timeout=2)
        )
    assert (report.received, report.unsent) == (8, 0)
    assert causes(report) == {"timeout-reply": 2}


async def test_what_a_connecting_function_says_is_kept_in_one_line(
    autojump_clock: Clock,
) -> None:
    """Whatever it says; it is printed, and goes into JSON."""

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise OSError("proxy said:\n502 \x1b[31mbad gateway")

    report = check(await techo.load(connect, connections=1, trips=3))
    assert report.reasons == {
        techo.FailureCause.UNREACHABLE: r"proxy said: 502 \x1b[31mbad gateway"
    }


async def test_stopping_while_nobody_is_there_is_the_end(autojump_clock: Clock) -> None:
    """Nothing is under way then, and what was due is not tried for a timeout more."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_later, stop, 6.0)
        connect = away(nursery, math.inf)
        report = check(await techo.load(connect, connections=1, rate=2, stop=stop))
        assert trio.current_time() == 6
    assert (report.received, report.lost, report.unsent) == (8, 1, 3)


async def test_a_connecting_function_whose_connection_breaks(autojump_clock: Clock) -> None:
    """That is a cause, too: a handshake of its own may have failed."""

    async def connect() -> MemoryStream:
        await trio.sleep(1)
        raise trio.BrokenResourceError("in mid-handshake")

    report = check(await techo.load(connect, connections=2, trips=5))
    assert causes(report) == {"reset": 2}
    assert report.reasons == {techo.FailureCause.RESET: "in mid-handshake"}


@pytest.mark.parametrize("connects", [True, False])
async def test_stopping_before_the_first_trip(autojump_clock: Clock, *, connects: bool) -> None:
    """Whether anybody would have answered or not, there is a report of nothing, at once."""
    stop, watched = trio.Event(), list[techo.LoadReport]()
    async with open_memory_server() as server, trio.open_nursery() as nursery:
        if connects:
            stop.set()
        else:
            nursery.start_soon(set_later, stop, 3.0)
        target = server.connect if connects else trio.sleep_forever
        report = check(await techo.load(target, stop=stop, watch=watched.append))
        assert trio.current_time() == (0 if connects else 3)
        assert [each.received for each in watched] == [0]
        assert (report.received, report.lost, report.failures) == (0, 0, {})
        assert server.statistics().bytes_in == 0


async def set_later(stop: trio.Event, seconds: float) -> None:
    """Stop a load after some time."""
    await trio.sleep(seconds)
    stop.set()


@pytest.mark.parametrize(
    ("options", "round_trips", "unsent"),
    [
        ({}, 3, 0),
        ({"trips": 100}, 3, 0),
        ({"rate": 1.0}, 2, 0),
        ({"trips": 100, "rate": 4.0}, 3, 2),
    ],
    ids=str,
)
async def test_stopping_in_the_middle(
    autojump_clock: Clock, options: dict[str, Any], round_trips: int, unsent: int
) -> None:
    """No trip begins any more, be it due or not, and those under way still come back."""
    stop = trio.Event()
    async with (
        open_memory_server(faults=[Delay(0.5)]) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(set_later, stop, 1.2)
        report = check(await techo.load(server.connect, connections=1, stop=stop, **options))
        assert (report.received, report.lost) == (round_trips, 0)
        assert report.unsent == unsent
        assert report.seconds == trio.current_time() == 1.5


@pytest.mark.parametrize(
    ("rate", "stopped", "lasts"), [(None, 1, 4), (None, 3, 6), (None, 5.9, 6), (10, 3, 6.1)]
)
async def test_stopping_while_the_server_is_stalled(
    autojump_clock: Clock, rate: float | None, stopped: float, lasts: float
) -> None:
    """It ends at the latest a timeout later, be there more that is due or not."""
    stop = trio.Event()
    stalls = 0 if stopped == 1 else 64 * 4
    async with (
        open_memory_server(reply=techo.raw, faults=[Delay(0.5), Stall(after=stalls)]) as server,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(set_later, stop, stopped)
        report = check(
            await techo.load(server.connect, connections=2, rate=rate, timeout=4, stop=stop)
        )
        assert trio.current_time() == pytest.approx(lasts, abs=0.1)
        assert causes(report) == {"timeout-reply": report.lost}
        assert report.lost >= 2


async def test_a_reply_is_waited_for_exactly_so_long(autojump_clock: Clock) -> None:
    """Not a bit less, and not so much more that a late one would count."""
    for seconds, lost in ((3.99, 0), (4.01, 1)):
        async with open_memory_server(reply=techo.raw, faults=[Delay(seconds)]) as server:
            report = check(await techo.load(server.connect, connections=1, trips=1, timeout=4))
        assert (report.lost, report.received) == (lost, 1 - lost)


async def test_cancellation_closes_all_connections(autojump_clock: Clock) -> None:
    """And gives no report."""
    async with open_memory_server(faults=[Delay(0.5)]) as server:
        with trio.move_on_after(3.2) as scope:
            await techo.load(server.connect, connections=5, seconds=PATIENCE)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 3.2
        await trio.sleep(0.5)
        assert server.statistics().accepted == 5
        assert server.statistics().active == 0


BAD: list[tuple[dict[str, object], str]] = [
    ({"connections": 0}, "connections 0 is not a whole number from 1"),
    ({"trips": 0}, "trips 0 is not a whole number from 1"),
    ({"size": -1}, "size -1 is not a whole number from 1"),
    ({"pipeline": 1.5}, "pipeline 1.5 is not a whole number from 1"),
    ({"seconds": 0}, "seconds 0 is not a number of seconds above 0"),
    ({"seconds": float("inf")}, "seconds inf is not a number of seconds above 0"),
    ({"rate": float("nan")}, "rate nan is not a number of trips per second above 0"),
    (
        {"rate": 2e9},
        "rate 2000000000.0 is not a number of trips per second above 0, up to 1000000000",
    ),
    ({"seconds": "3"}, "seconds '3' is not a number of seconds above 0"),
    ({"connections": None}, "connections None is not a whole number from 1"),
    ({"warm_up": None}, "warm_up None is not a number of seconds from 0"),
    ({"timeout": -3}, "timeout -3 is not a number of seconds above 0"),
    ({"warm_up": -1}, "warm_up -1 is not a number of seconds from 0"),
    ({"warm_up": float("nan")}, "warm_up nan is not"),
    ({"seconds": 1, "trips": 2}, "seconds 1 and trips 2: give one of them"),
    ({"target": "nowhere://x"}, "nowhere"),
    ({"target": "fd:3"}, "can't connect to fd:3"),
    ({"target": "tcp://127.0.0.1:0"}, "port 0"),
    ({"target": "8009", "server_name": "x"}, "tcp://127.0.0.1:8009 is not tls"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=str)
async def test_arguments_that_make_no_sense_are_refused(
    arguments: dict[str, object], words: str
) -> None:
    """By name and value, before anybody connects."""

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise AssertionError("nobody should connect")

    load: Callable[..., Awaitable[techo.LoadReport]] = techo.load
    with pytest.raises(ValueError, match=words):
        await load(**{"target": connect, **arguments})


@pytest.mark.parametrize(
    ("lossy", "options", "outage"),
    [
        (True, {"trips": 5, "rate": 10.0}, 0.1),
        (True, {"trips": 5}, 0),
        (True, {"seconds": 20.0, "rate": 10.0}, 19.6),
        (True, {"seconds": 20.0}, 20),
        (False, {"trips": 5, "rate": 10.0}, 1),
    ],
    ids=str,
)
async def test_a_datagram_lost_last_is_no_outage(
    autojump_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    lossy: bool,  # noqa: FBT001  -- pytest gives it by name
    options: dict[str, Any],
    outage: float,
) -> None:
    """Nothing was sent any more that could come back; over a stream, what was sent has to."""
    monkeypatch.setattr(load_module, "is_lossy", lambda _kind: lossy)
    async with open_memory_server(
        reply=techo.raw, faults=[Delay(0.01), Stall(64 * 4)]
    ) as server:

        async def connect() -> MemoryStream:
            if not server.statistics().accepted:
                return await server.connect()
            return MemoryStream.pair()[0]  # nobody answers there

        report = check(await techo.load(connect, connections=1, timeout=1.0, **options))
    assert report.received == 4
    assert report.outages == bool(outage)
    assert report.outage_seconds == pytest.approx(outage, abs=0.05)
