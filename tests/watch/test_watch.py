"""watch: targets that come, go, hang and move, in virtual time; what is counted and kept."""

from __future__ import annotations

import functools
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

import techo
from techo import testing
from techo._watch.counts import MINUTE, Counts, Span
from techo._watch.lookups import Lookups
from techo._watch.watch import _look_up_again, watch
from techo.testing import MemoryStream

AHEAD = 1_000_000_020.0
"""Unix time when the run's clock is 0, which is when a minute begins."""


@attrs.define
class Kept:
    """A recorder that keeps everything in memory."""

    spans: list[Span] = attrs.field(factory=list)
    changes: list[techo.Change] = attrs.field(factory=list)

    def put_span(self, span: Span) -> None:
        """Keep a minute."""
        self.spans.append(span)

    def put_change(self, change: techo.Change) -> None:
        """Keep a change."""
        self.changes.append(change)


@attrs.define
class Place:
    """Where a server in memory can be away, or hang."""

    server: testing.MemoryServer
    away: bool = False
    hangs: bool = False

    async def connect(self) -> MemoryStream:
        """Connect, if it is there."""
        if self.hangs:
            await trio.sleep_forever()
        if self.away:
            raise ConnectionRefusedError(111, "Connection refused")
        return await self.server.connect()


@asynccontextmanager
async def place(*faults: testing.Fault) -> AsyncIterator[Place]:
    """Have a server in memory for a block."""
    limits = techo.Limits(idle_timeout=math.inf)
    async with testing.open_memory_server(
        reply=techo.raw, faults=faults, limits=limits
    ) as server:
        yield Place(server)


def wall() -> float:
    """Return Unix time, which goes with the run's clock."""
    return AHEAD + trio.current_time()


begin = functools.partial(watch, wall=wall)
"""Make a watch in virtual time."""


async def test_an_outage_is_told_with_its_cause_and_counted_to_the_second(
    autojump_clock: MockClock,
) -> None:
    """It is away for 30 s; the history gets both changes, and minutes that add up."""
    kept = Kept()
    async with place() as there:
        target = techo.WatchTarget(endpoint=there.connect, name="a", labels={"site": "x"})
        async with begin([target], recorder=kept) as watching:
            up = await watching.__anext__()
            await trio.sleep(99)
            await there.server.drain()
            down = await watching.__anext__()
            await trio.sleep(27)
            async with place() as another:
                there.server = another.server
                again = await watching.__anext__()
                await trio.sleep(120)
    (found,) = watching.snapshot()
    assert [change.state for change in (up, down, again)] == ["up", "down", "up"]
    assert (down.target, down.labels) == ("a", {"site": "x"})
    assert again.ended is not None
    assert again.ended.cause is techo.FailureCause.REFUSED
    assert again.ended.probes == found.total.lost
    assert again.ended.seconds == pytest.approx(again.ended.probes, abs=1.01)
    assert found.total.down_seconds == pytest.approx(again.ended.seconds)
    assert found.state == "up"
    assert kept.changes == [up, down, again]
    total = Counts()
    for span in kept.spans:
        assert span.seconds == MINUTE
        assert span.start % MINUTE == 0
        total.add(span.counts)
    assert len({span.start for span in kept.spans}) == len(kept.spans) >= 4
    assert total.received == found.total.received
    assert total.failures == found.total.failures
    assert total.down_seconds == pytest.approx(found.total.down_seconds)


async def test_looking_often_makes_no_outage_longer(autojump_clock: MockClock) -> None:
    """It is over when the first probe was sent that came back, which is known much later."""
    seen = [0.0]
    async with place() as there:
        there.away = True
        target = techo.WatchTarget(endpoint=there.connect, name="a", interval=10)
        async with begin([target]) as watching:
            for tenth in range(1200):
                there.away = tenth < 595
                await trio.sleep(0.1)
                assert watching.minute("a") is not None
                seen.append(watching.snapshot()[0].total.down_seconds)
            changes = [await watching.__anext__() for _ in range(2)]
    assert seen == sorted(seen)
    assert seen[550] > 40
    assert changes[1].ended is not None
    assert changes[1].ended.seconds == pytest.approx(60)
    assert seen[-1] == pytest.approx(60)


async def test_a_watch_is_used_in_its_block_and_once(autojump_clock: MockClock) -> None:
    """Elsewhere it says so, instead of waiting for ever for what never comes."""
    async with place() as there:
        watching = begin([techo.WatchTarget(endpoint=there.connect, name="a")])
        with pytest.raises(RuntimeError, match="needs a block"):
            await watching.__anext__()
        with pytest.raises(RuntimeError, match="within its block"):
            watching.reload([])
        async with watching:
            await trio.sleep(10)
        with pytest.raises(RuntimeError, match="within its block"):
            watching.reload([])
        async with watching.subscribe() as changes:
            assert [change async for change in changes] == []
        assert len([change async for change in watching]) == 1
        with pytest.raises(RuntimeError, match="only once"):
            await watching.__aenter__()
    with pytest.raises(ValueError, match="count 0"):
        begin([], count=0)


async def test_one_that_hangs_holds_up_nobody(autojump_clock: MockClock) -> None:
    """Of two targets, one never connects; the other misses nothing."""
    async with place() as there, place() as stuck:
        stuck.hangs = True
        targets = [
            techo.WatchTarget(endpoint=there.connect, name="good"),
            techo.WatchTarget(endpoint=stuck.connect, name="bad"),
        ]
        async with begin(targets) as watching:
            changes = {(await watching.__anext__()).target for _ in range(2)}
            await trio.sleep(600)
            good, bad = watching.snapshot()
    assert changes == {"good", "bad"}
    assert (good.state, good.total.lost, good.missed) == ("up", 0, 0)
    assert good.total.received >= 600
    assert (bad.state, bad.cause) == ("down", techo.FailureCause.TIMEOUT_CONNECT)


async def test_a_rule_degrades(autojump_clock: MockClock) -> None:
    """Replies take 50 ms, and the rule is about 20."""
    async with place(testing.Delay(0.05)) as there:
        target = techo.WatchTarget(endpoint=there.connect, name="a", rules=["p50>20ms"])
        async with begin([target]) as watching:
            states = [(await watching.__anext__()).state for _ in range(2)]
            (found,) = watching.snapshot()
    assert states == ["up", "degraded"]
    assert found.recent.percentile(50) == pytest.approx(50e6, rel=0.01)


async def test_a_count_ends_it(autojump_clock: MockClock) -> None:
    """Iterating ends when all probes of all targets are over; ping's statistics are there."""
    results = list[tuple[str, techo.PingResult]]()
    async with place() as there, place() as gone:
        gone.away = True
        targets = [
            techo.WatchTarget(endpoint=there.connect, name="a"),
            techo.WatchTarget(endpoint=gone.connect, name="b"),
        ]

        def take(target: techo.WatchTarget, result: techo.PingResult) -> None:
            results.append((target.name, result))

        async with begin(targets, count=5, results=take) as watching:
            changes = [change async for change in watching]
            found = watching.statistics()
    assert sorted((each.target, str(each.state)) for each in changes) == [
        ("a", "up"),
        ("b", "down"),
    ]
    assert (found["a"].received, found["b"].lost) == (5, 5)
    assert [name for name, _ in results].count("a") == 5


async def test_a_reload_leaves_alone_what_is_the_same(autojump_clock: MockClock) -> None:
    """What it counted stays, one that changed begins anew, and one that is gone is gone."""
    async with place() as there:
        same = techo.WatchTarget(endpoint=there.connect, name="same")
        other = attrs.evolve(same, name="other")
        async with begin([same, other, attrs.evolve(same, name="gone")]) as watching:
            await trio.sleep(60)
            changed = attrs.evolve(other, interval=2.0)
            assert watching.reload(
                [attrs.evolve(same), changed, attrs.evolve(same, name="new")]
            ) == (2, 2)
            with pytest.raises(ValueError, match="two targets are called 'same'"):
                watching.reload([same, same])
            await trio.sleep(60)
            found = {each.target: each for each in watching.snapshot()}
    assert [*found] == ["same", "other", "new"]
    assert found["same"].total.received >= 119
    assert 29 <= found["other"].total.received <= 31
    assert {each.state for each in found.values()} == {"up"}


async def test_what_is_not_watched_any_more_is_left_alone(autojump_clock: MockClock) -> None:
    """However it is probed; with nothing left to watch, more can come, and changes go on."""
    async with place() as there:
        one = techo.WatchTarget(endpoint=there.connect, name="one")
        two = techo.WatchTarget(endpoint=there.connect, name="two", connect=True)
        async with begin([one, two]) as watching:
            await trio.sleep(10)
            assert watching.reload([]) == (0, 2)
            begun = there.server.service.statistics().accepted
            await trio.sleep(10)
            assert there.server.service.statistics().accepted == begun
            assert not watching._pace._next
            watching.reload([attrs.evolve(two, name="three")])
            changes = [(await watching.__anext__()).target for _ in range(3)]
    assert (sorted(changes[:2]), changes[2]) == (["one", "two"], "three")


async def test_nothing_is_missed_for_want_of_a_look(autojump_clock: MockClock) -> None:
    """A timeout of many intervals holds up no probe, at first and after a connection broke."""
    async with place() as there:
        target = techo.WatchTarget(endpoint=there.connect, name="a", interval=0.1, timeout=5)
        async with begin([target]) as watching:
            await trio.sleep(10.05)
            await there.server.drain()
            async with place() as another:
                there.server = another.server
                await trio.sleep(10)
                (found,) = watching.snapshot()
    assert found.missed == 0
    assert found.sent > 200


@pytest.mark.parametrize("connect", [False, True])
async def test_what_was_due_while_this_program_stood_still_is_missed(
    autojump_clock: MockClock, *, connect: bool
) -> None:
    """It tried nothing then, so that none of these probes is lost, although it is down."""
    async with place() as there:
        there.away = True
        target = techo.WatchTarget(endpoint=there.connect, name="a", connect=connect)
        async with begin([target]) as watching:
            await trio.sleep(10.5)  # and no probe is on its way
            autojump_clock.jump(60)
            await trio.sleep(10)
            (found,) = watching.snapshot()
    assert found.missed == pytest.approx(59, abs=1)
    assert found.total.lost == found.sent == pytest.approx(21, abs=1)


async def test_what_a_function_raises_leaves_the_block(autojump_clock: MockClock) -> None:
    """Other than the network's errors, it is a bug of who has written it."""

    async def connect() -> MemoryStream:
        await trio.lowlevel.checkpoint()
        raise KeyError("a bug")

    async def run() -> None:
        async with begin([techo.WatchTarget(endpoint=connect, name="a")]) as watching:
            await watching.__anext__()

    with pytest.raises(KeyError, match="a bug"):
        await run()


async def test_what_the_block_raises_leaves_it_as_it_was(autojump_clock: MockClock) -> None:
    """Even a group of one error stays the same group, with the same cause."""
    cause = OSError("why")
    group = ExceptionGroup("of the block", [KeyError("one")])
    async with place() as there:
        target = techo.WatchTarget(endpoint=there.connect, name="a")
        with pytest.raises(ExceptionGroup) as raised:  # noqa: ASYNC401  -- this very group
            async with begin([target]):
                raise group from cause
    assert raised.value is group
    assert (group.__cause__, group.__suppress_context__) == (cause, True)


async def test_everybody_who_subscribes_hears_each_change(autojump_clock: MockClock) -> None:
    """From when they did, and until the watch is over."""
    async with place() as there:
        target = techo.WatchTarget(endpoint=there.connect, name="a")
        async with begin([target], count=3) as watching, watching.subscribe() as changes:
            heard = [change async for change in changes]
            assert heard == [change async for change in watching]
    assert [change.state for change in heard] == ["up"]


async def test_a_month_takes_no_memory(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a simulated month, what is kept of a target stays as it is."""
    monkeypatch.setattr("techo._watch.watch._TICK", 3600.0)
    async with place() as there:
        target = techo.WatchTarget(endpoint=there.connect, name="a", interval=600.0)
        async with begin([target]) as watching:
            await trio.sleep(86_400)
            record = watching._watched["a"].record
            before = len(record.total.latency.buckets), len(record._sequence)
            await trio.sleep(29 * 86_400)
            (found,) = watching.snapshot()
            assert (len(record.total.latency.buckets), len(record._sequence)) == before
    assert found.total.received == pytest.approx(30 * 144, abs=2)
    assert (found.missed, found.total.lost) == (0, 0)


@attrs.define
class Names:
    """A resolver some of whose names hang, until they are let go."""

    hanging: dict[str, trio.Event] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)

    async def resolve(self, host: str) -> list[str]:
        """Look up a name."""
        self.asked.append(host)
        await trio.lowlevel.checkpoint()
        if host in self.hanging:
            await self.hanging[host].wait()
        if host == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [host]


async def test_a_look_up_that_hangs_holds_up_only_its_own_name(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred names hang, each of them once however many want it; others are looked up."""
    names = Names({f"slow{number}": trio.Event() for number in range(100)})

    async def in_a_thread(
        _function: object, host: str, *_: object, limiter: trio.CapacityLimiter, **_more: object
    ) -> object:
        async with limiter:
            return await names.resolve(host)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_a_thread)
    async with trio.open_nursery() as nursery:
        lookups = Lookups(nursery)

        async def want(host: str) -> object:
            with trio.move_on_after(1):
                return await lookups.look_up(host, 80, socket.SOCK_STREAM)
            return None

        for _ in range(3):  # the second time they are known to be slow
            for number in range(100):
                nursery.start_soon(want, f"slow{number}")
            await trio.sleep(5)
            for event in names.hanging.values():
                event.set()
            await trio.sleep(5)
            for host in names.hanging:
                names.hanging[host] = trio.Event()
        for number in range(100):
            nursery.start_soon(want, f"slow{number}")
        await trio.sleep(0.5)
        begun = trio.current_time()
        for number in range(64):
            assert await want(f"good{number}") == [f"good{number}"]
        assert trio.current_time() == begun
        assert names.asked[-64:] == [f"good{number}" for number in range(64)]
        with pytest.raises(socket.gaierror):
            await lookups.look_up("unknown", 80, socket.SOCK_STREAM)
        nursery.cancel_scope.cancel()


async def test_a_name_that_moves_is_found_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing is refused, a target of datagrams is looked up anew while it is down."""
    asked = list[float]()

    async def look_up(_self: Lookups, host: str, *_: object) -> list[object]:
        asked.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        kind = socket.SOCK_DGRAM
        return [(socket.AF_INET, kind, 0, "", silent.getsockname())] if host else []

    monkeypatch.setattr(Lookups, "look_up", look_up)
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        async with begin(["udp://silent.example:8009"]) as watching:
            assert (await watching.__anext__()).state is techo.State.DOWN
            await trio.sleep(9.5)
            (found,) = watching.snapshot()
    assert found.total.lost >= 9
    assert [round(each) for each in asked] == [0, 4, 7, 10]


@pytest.mark.parametrize(("connectionless", "aborted"), [(True, 1), (False, 0)])
def test_only_a_socket_for_datagrams_is_left_for_the_name_to_be_looked_up(
    connectionless: Any, aborted: int
) -> None:
    """A connection may still work, and otherwise it will break."""
    endings = list[object]()
    transport = SimpleNamespace(connectionless=connectionless)
    driver = SimpleNamespace(transport=transport, abort=endings.append)
    engine: Any = SimpleNamespace(drivers={"the only one": driver})
    _look_up_again(techo.WatchTarget(endpoint="target.example:8009"), engine)
    assert len(endings) == aborted
    endings.clear()
    _look_up_again(techo.WatchTarget(endpoint="127.0.0.1:8009"), engine)
    assert not endings


async def test_probes_whose_number_is_given_begin_within_a_second(
    autojump_clock: MockClock,
) -> None:
    """However long the interval is, since somebody waits for them."""
    async with place() as there:
        targets = [
            techo.WatchTarget(endpoint=there.connect, name=name, interval=60.0)
            for name in ("a", "b", "c")
        ]
        begun = trio.current_time()
        async with begin(targets, count=1) as watching:
            assert [each async for each in watching] == []
            assert trio.current_time() - begun < 1
            assert [each.total.received for each in watching.snapshot()] == [1, 1, 1]


async def test_the_programs_own_resolver_is_asked(autojump_clock: MockClock) -> None:
    """As it is by everything else in the run; it stays the one that it was."""

    class Own(trio.abc.HostnameResolver):
        async def getaddrinfo(  # type: ignore[override]  # of all its forms, the one that is used
            self, host: bytes, *_: object
        ) -> list[object]:
            await trio.lowlevel.checkpoint()
            return [host]

        async def getnameinfo(self, *_: object) -> tuple[str, str]:
            raise NotImplementedError

    own = Own()
    trio.socket.set_custom_hostname_resolver(own)
    async with trio.open_nursery() as nursery:
        lookups = Lookups(nursery)
        found: list[Any] = await lookups.look_up("one.example", 80, socket.SOCK_STREAM)
    assert found == [b"one.example"]
    assert trio.socket.set_custom_hostname_resolver(None) is own


async def test_without_a_thread_to_look_up_in_a_probe_is_lost_here(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is this machine's fault, which ends neither the target nor the watch."""

    async def no_thread(*_: object, **_more: object) -> object:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    async with begin(["one.example:8009"], count=2) as watching:
        assert [change async for change in watching] == []
    (found,) = watching.snapshot()
    assert found.total.failures == {techo.FailureCause.LOCAL: 2}
