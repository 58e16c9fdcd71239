"""Ping as it is used: cancelled, left early, asked for nonsense, run without end. In memory."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import trustme

import techo
from helpers import ended, trust
from pings import add_up, see
from techo import testing
from techo._ping import records
from techo._probing import engine
from techo.testing import MemoryStream, open_memory_server

pytestmark = pytest.mark.usefixtures("unix_time")


async def leave(ping: techo.Ping, way: str) -> None:
    """Ask once, and stop in one of many ways."""
    with trio.CancelScope() as scope:
        async with ping:
            async for _ in ping:
                if way == "break":
                    break
                if way == "raise":
                    raise KeyError("mine")
                scope.cancel()


async def payloads_of(**options: Any) -> list[bytes]:
    """What a server is sent by a ping."""
    heard: list[bytes] = []

    def reply(chunk: bytes) -> bytes:
        heard.append(chunk)
        return chunk

    async with open_memory_server(reply=reply) as server:
        await see(techo.ping(server.connect, **options))
    return heard


async def test_no_probe_is_like_any_other(autojump_clock: trio.testing.MockClock) -> None:
    """Each has its number, its run's nonce, and a pattern of its own."""
    one, other = [await payloads_of(count=300, size=80) for _ in range(2)]
    assert [int.from_bytes(each[:8], "little") for each in one] == list(range(1, 301))
    (nonce,), (another,) = [{each[8:16] for each in run} for run in (one, other)]
    assert nonce != another
    assert len({each[16:] for each in one + other}) == 600
    assert [len(each) for each in await payloads_of(size=range(1, 40))] == list(range(1, 40))


@pytest.mark.parametrize("way", ["break", "raise", "cancel"])
async def test_leaving_it_closes_the_connection(
    autojump_clock: trio.testing.MockClock, way: str
) -> None:
    """In mid-iteration; what was under way stays so, and no more results come."""
    async with open_memory_server(reply=techo.raw, faults=[testing.Delay(2.5)]) as server:
        ping = techo.ping(server.connect, timeout=9)
        if way == "raise":
            with pytest.raises(KeyError, match="mine"):
                await leave(ping, way)
        else:
            await leave(ping, way)
        await trio.testing.wait_all_tasks_blocked()
        found = ping.statistics()
        assert (found.sent, found.received, found.lost, found.in_flight) == (3, 1, 0, 2)
        with pytest.raises(StopAsyncIteration):
            await anext(ping)
        with pytest.raises(RuntimeError, match="only once"):
            await ping.__aenter__()
        assert ping.statistics() == found
    assert server.statistics().accepted == sum(ended(server.statistics()).values()) == 1


async def test_behind_the_block_there_are_no_results(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Three fail at once; who leaves after the first gets no more, but they are counted."""
    ours, theirs = MemoryStream.pair()

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    async def cut() -> None:
        await trio.sleep(2.25)
        theirs.reset()

    async with trio.open_nursery() as nursery, techo.ping(connect, timeout=9) as ping:
        nursery.start_soon(cut)
        assert isinstance(await anext(ping), techo.PingFailure)
    with pytest.raises(StopAsyncIteration):
        await anext(ping)
    assert ping.statistics().lost == 3


@pytest.mark.parametrize("pause", [0.0625, 0.125, 0.3125, 0.5, 0.8125])
async def test_whoever_is_cancelled_while_asking_loses_no_result(
    autojump_clock: trio.testing.MockClock, pause: float
) -> None:
    """Asking again and again, with little patience, gives what waiting gives."""
    told = []
    for patience in (math.inf, pause):
        async with (
            open_memory_server(faults=[testing.Delay(1.140625)]) as server,
            techo.ping(server.connect, count=8, interval=0.5, timeout=1.1) as ping,
        ):
            begun = trio.current_time()
            results: list[techo.PingResult] = []
            over = False
            while not over:
                with trio.move_on_after(patience):
                    result = await anext(ping, None)
                    results += [result] if result is not None else []
                    over = result is None
                    add_up(results, ping.statistics())
        told.append([attrs.evolve(result, at=result.at - begun) for result in results])
    assert told[0] == told[1]
    assert ping.statistics().late > 0


async def test_an_endless_run_keeps_what_adds_up_and_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whether all is well, or a connection breaks again and again."""
    faults = [testing.Truncate(64 * 70), testing.Delay(0.5)]
    async with (
        open_memory_server(reply=techo.raw, faults=faults) as server,
        techo.ping(server.connect, interval=0.25, timeout=2) as ping,
    ):
        most = 0
        for _ in range(1000):
            await anext(ping)
            records = ping._records
            waiting = len(records._outages._settled) + ping._engine.run.in_flight
            most = max(most, len(records.results) + waiting)
        assert most < 30
    assert ping.statistics().reconnects > 10


async def test_a_stream_that_only_swallows_is_opened_anew_in_the_end(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it owes is remembered, for replies may be late; but not without bound."""
    monkeypatch.setattr(engine, "_MOST_UNANSWERED", 10)
    async with (
        open_memory_server(faults=[testing.Stall()]) as server,
        techo.ping(server.connect, timeout=0.5) as ping,
    ):
        results = [await anext(ping) for _ in range(33)]
    failures = [each for each in results if isinstance(each, techo.PingFailure)]
    assert [each.reason for each in failures if each.seq is None] == [
        "10 probes not answered"
    ] * 3
    assert {each.cause for each in failures} == {techo.FailureCause.TIMEOUT_REPLY}
    assert ping.statistics().lost == 30
    assert server.statistics().accepted == 3


async def test_a_reply_behind_many_failures_is_still_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A server that was stuck for half a minute gives all of them back."""
    async with open_memory_server(reply=techo.raw, faults=[testing.SlowAccept(30.5)]) as server:
        seen = await see(techo.ping(server.connect, count=33))
    found = seen.statistics
    assert (found.received, found.late, found.lost) == (33, 30, 0)
    assert found.longest_outage is not None
    assert (found.longest_outage.probes, found.longest_outage.seconds) == (30, 30)


BAD: list[tuple[dict[str, Any], str]] = [
    *[
        ({name: value}, f"{name} {value!r} is not a number of seconds above 0")
        for name in ("interval", "timeout")
        for value in (0, -1, math.nan, math.inf, None, "1", True)
    ],
    *[
        ({name: value}, f"{name} {value!r} is not a whole number from 1")
        for name in ("count", "size")
        for value in (0, -1, 1.5, "3", True)
    ],
    ({"interval": 1e18}, "interval 1e.18 is not below 1e18"),
    ({"count": 10**18}, "count 10{18} is not below 1e18"),
    ({"size": range(5, 5)}, r"size range\(5, 5\) has no size in it"),
    ({"size": range(-2, 5)}, "size -2 is not a whole number from 1"),
    ({"target": "non sense"}, "bad endpoint 'non sense'"),
    ({"target": "*:8009"}, "tcp://\\*:8009: .* name host and port"),
    ({"target": "fd:3"}, "fd:3"),
    ({"tls": trust(trustme.CA())}, "tcp://127.0.0.1:1 is not tls"),
    ({"server_name": "x"}, "tcp://127.0.0.1:1 is not tls"),
    (
        {"target": trio.sleep_forever, "tls": trust(trustme.CA())},
        "function that connects takes neither tls nor server_name",
    ),
    ({"target": trio.sleep_forever, "server_name": "x"}, "takes neither"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_nonsense_is_a_value_error_at_once(arguments: dict[str, Any], words: str) -> None:
    """It names the argument and its value; no run is needed to be told."""
    with pytest.raises(ValueError, match=words):
        techo.ping(**{"target": "127.0.0.1:1"} | arguments)


@pytest.mark.parametrize("target", [8009, None, b"tcp://127.0.0.1:8009"])
async def test_what_is_no_target_is_a_type_error_at_once(target: Any) -> None:
    """By ping when it is made, and by load before it connects; it names the value."""
    with pytest.raises(TypeError, match=f"target {target!r} is no endpoint"):
        techo.ping(target)
    with pytest.raises(TypeError, match=f"target {target!r} is no endpoint"):
        await techo.load(target)


async def test_outside_its_block_it_can_not_be_iterated() -> None:
    """There is nowhere for its tasks to be; the error shows how it is written."""
    ping = techo.ping("127.0.0.1:1")
    with pytest.raises(RuntimeError, match=r"async with techo\.ping"):
        await anext(ping)


async def test_two_tasks_that_ask_the_same_ping_are_one_too_many(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The second gets BusyResourceError at once, and the first its result."""
    async with (
        open_memory_server(reply=techo.raw, faults=[testing.Delay(0.5)]) as server,
        techo.ping(server.connect, count=1) as ping,
        trio.open_nursery() as nursery,
    ):
        results: list[techo.PingResult] = []

        async def ask() -> None:
            results.append(await anext(ping))

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(ping)
    assert [result.seq for result in results] == [1]


async def test_a_program_that_is_busy_misses_probes_and_sends_none_in_a_burst(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What is due in the meantime is left out and counted; the next is in step."""
    sent: list[float] = []
    begun = trio.current_time()

    def reply(chunk: bytes) -> bytes:
        sent.append(trio.current_time() - begun)
        return chunk

    async with (
        open_memory_server(reply=reply) as server,
        techo.ping(server.connect, count=4, interval=1) as ping,
    ):
        assert (await anext(ping)).seq == 1
        autojump_clock.jump(3.5)  # the program computes, and no task of the run has its turn
        assert [(await anext(ping)).seq for _ in range(3)] == [2, 3, 4]
    assert sent == [0, 3.5, 4, 5]
    assert (ping.statistics().sent, ping.statistics().missed) == (4, 2)


async def test_results_that_nobody_asks_for_wait_and_are_not_without_bound(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When so many wait, probes are missed until one is asked for; none is lost."""
    monkeypatch.setattr(records, "MOST_WAITING", 10)
    limits = techo.Limits(idle_timeout=math.inf)
    async with (
        open_memory_server(reply=techo.raw, limits=limits) as server,
        techo.ping(server.connect, interval=1) as ping,
    ):
        await trio.sleep(100.5)
        found = ping.statistics()
        assert (found.sent, found.missed, found.lost) == (10, 91, 0)
        assert [(await anext(ping)).seq for _ in range(11)] == list(range(1, 12))
        assert trio.current_time() - 101 < 1


async def test_what_a_function_that_connects_raises_comes_out_bare(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Out of ping and load alike, whenever that is, and connections are closed."""
    calls = 0

    async def connect() -> MemoryStream:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise LookupError("mine")
        ours, theirs = MemoryStream.pair()
        theirs.reset()
        await trio.lowlevel.checkpoint()
        return ours

    with pytest.raises(LookupError, match="mine"):
        await see(techo.ping(connect))
    calls = 1
    with pytest.raises(LookupError, match="mine"):
        async with techo.ping(connect):
            await trio.sleep(1)  # of virtual time: nobody asks for results
    calls = 0
    with pytest.raises(LookupError, match="mine"):
        await techo.load(connect, connections=1)
    calls = 1
    with pytest.raises(LookupError, match="mine"):
        await techo.load(connect, connections=3)
    with pytest.raises(KeyError, match="yours"):
        async with open_memory_server(reply=techo.raw) as server:
            await techo.load(server.connect, watch=raise_key_error)


class Buggy(MemoryStream):
    """Receives nothing but an error that no stream should raise."""

    async def receive_some(self, _max_bytes: int | None = None) -> bytes:
        """Raise what nobody expects."""
        await trio.lowlevel.checkpoint()
        raise LookupError("mine")


async def test_what_a_stream_of_the_user_s_raises_comes_out_bare(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """However many tasks it is raised below."""

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        return Buggy.pair()[0]

    with pytest.raises(LookupError, match="mine"):
        await see(techo.ping(connect))
    with pytest.raises(LookupError, match="mine"):
        await techo.load(connect, connections=2)


def raise_key_error(_: object) -> None:
    """Raise what nobody expects."""
    raise KeyError("yours")


@pytest.mark.parametrize("attempt", range(5))
async def test_what_has_arrived_during_a_stall_is_not_given_up(
    autojump_clock: trio.testing.MockClock, attempt: int
) -> None:
    """A program that stood still for longer than a timeout takes in what came, then judges."""
    stalled = False

    def reply(chunk: bytes) -> bytes:
        nonlocal stalled
        if not stalled:
            stalled = True
            autojump_clock.jump(5)
        return chunk

    async with open_memory_server(reply=reply) as server:
        seen = await see(techo.ping(server.connect, count=2, timeout=1))
        report = await techo.load(server.connect, connections=2, trips=4, timeout=1)
    assert seen.told == [(1, "reply"), (2, "reply")]
    assert (report.received, report.lost) == (4, 0)
