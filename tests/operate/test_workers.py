"""Workers, in virtual time: who is started again and when no more, sums, reloads, the end."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.testing

import techo
from helpers import ended
from techo._operate import workers
from techo._operate.workers import Workers
from techo.endpoint import Endpoint

Clock = trio.testing.MockClock


@attrs.define(eq=False)
class Child:
    """A worker of a test, its process and its channel in one: it does what it is told."""

    pid: int
    places: Sequence[Endpoint]
    counted: Callable[[], dict[str, Any]]
    deaf: bool = False
    returncode: int | None = None
    told: list[str] = attrs.field(factory=list)
    _said: Any = attrs.field(factory=lambda: trio.open_memory_channel(math.inf))
    _over: trio.Event = attrs.field(factory=trio.Event)

    @property
    def process(self) -> Child:
        """Return this."""
        return self

    @property
    def channel(self) -> Child:
        """Return this."""
        return self

    def say(self, **message: object) -> None:
        """Send a message to the parent."""
        self._said[0].send_nowait(message)

    def report(self, number: int = 0) -> None:
        """Report what was counted."""
        self.say(report={"statistics": self.counted()}, answers=number)

    def exit(self, code: int) -> None:
        """End, if it has not."""
        if self.returncode is None:
            self.returncode = code
            self._said[0].close()
            self._over.set()

    def kill(self) -> None:
        """Do what `trio.Process.kill` does."""
        self.exit(-9)

    async def wait(self) -> int | None:
        """Do what `trio.Process.wait` does."""
        await self._over.wait()
        return self.returncode

    async def send(self, message: Mapping[str, Any]) -> bool:
        """Do as the parent says."""
        await trio.lowlevel.checkpoint()
        if self.returncode is not None:
            return False
        self.told.append(message["do"])
        if self.deaf:
            return True
        if message["do"] == "leave":
            return True
        if message["do"] == "report":
            self.report(message["number"])
        else:
            self.report()
            self.exit(0)
        return True

    async def receive(self) -> Any:
        """Return what it says next."""
        try:
            return await self._said[1].receive()
        except trio.EndOfChannel:
            return None


def counted(accepted: int = 1, active: int = 0) -> dict[str, Any]:
    """Return what a worker has counted."""
    found = attrs.asdict(techo.EchoService().statistics())
    outcomes = {**found["outcomes"], "eof": accepted - active}
    return {**found, "accepted": accepted, "active": active, "outcomes": outcomes}


def begin(child: Child) -> None:
    """Listen at once, as a worker should."""
    child.report()
    child.say(ready=True)


@attrs.define
class Crowd:
    """All children that were started; what becomes of the next ones is `begin`'s."""

    begin: Callable[[Child], None] = begin
    counted: Callable[[], dict[str, Any]] = counted
    children: dict[int, Child] = attrs.field(factory=dict)
    """By the numbers of their processes: of the first ones 1 and 2, in that order."""

    @contextlib.asynccontextmanager
    async def open_child(
        self, command: Callable[[int], Sequence[str]], _descriptors: Sequence[int]
    ) -> AsyncIterator[Child]:
        """Start one."""
        number, *places = command(0)
        pid = int(number) + 1 if len(self.children) < 2 else len(self.children) + 1
        child = Child(pid, [Endpoint.parse(each) for each in places], self.counted)
        self.children[pid] = child
        self.begin(child)
        try:
            yield child
        finally:
            child.kill()

    @property
    def alive(self) -> list[int]:
        """Numbers of those that are not over."""
        return sorted(pid for pid, each in self.children.items() if each.returncode is None)


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    """Children instead of processes."""
    found = Crowd()
    monkeypatch.setattr(workers, "open_child", found.open_child)
    return found


def line_of(number: int, places: Sequence[Endpoint], _channel: int) -> list[str]:
    """Return the command line of a child."""
    return [str(number), *map(str, places)]


Start = Callable[[], Any]


@pytest.fixture
async def start(nursery: trio.Nursery) -> Start:
    """Starts two workers at a free port."""

    async def starting() -> Workers:
        found = Workers(
            2,
            line_of,
            techo.Limits(drain_timeout=10),
            None,
        )
        place = Endpoint.parse("tcp://127.0.0.1:0")
        await nursery.start(functools.partial(found.serve, place))
        return found

    return starting


async def test_one_that_dies_is_started_again_on_its_socket(
    autojump_clock: Clock, crowd: Crowd, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has how it died; its counts stay, and its connections are aborted."""
    crowd.counted = lambda: counted(3, 2)
    service = await start()
    assert crowd.alive == [1, 2]
    crowd.counted = counted
    crowd.children[1].exit(-9)
    await trio.testing.wait_all_tasks_blocked()
    assert crowd.alive == [2, 3]
    assert crowd.children[3].places == crowd.children[1].places != crowd.children[2].places
    assert caplog.messages == [
        "worker 1 (process 1) died: it was ended by signal 9; it is started again"
    ]
    found = service.statistics()
    assert (found.accepted, found.active) == (3 + 3 + 1, 2)
    assert ended(found) == {"eof": 3, "aborted": 2}
    await service.drain()
    assert crowd.alive == []


async def test_too_many_deaths_end_the_server(
    autojump_clock: Clock, crowd: Crowd, start: Start
) -> None:
    """Five within a minute are made good, in any minute; the sixth has the others drained."""
    service = await start()
    for _ in range(2):
        for _ in range(5):
            crowd.children[crowd.alive[0]].exit(1)
            await trio.testing.wait_all_tasks_blocked()
            assert len(crowd.alive) == 2
        await trio.sleep(61)
    for _ in range(6):
        assert not service.stopping.is_set()
        crowd.children[crowd.alive[0]].exit(1)
        await trio.testing.wait_all_tasks_blocked()
    assert service.stopping.is_set()
    await service.drain()
    assert service.failure == (
        "6 workers died within 60 s, which ends the server; of the last one, its exit "
        "status was 1"
    )
    assert [each.told for each in crowd.children.values()].count(["drain"]) == 1


async def test_a_successor_that_does_not_start_is_a_death_too(
    autojump_clock: Clock, crowd: Crowd, start: Start
) -> None:
    """So what fails at every start ends the server, with the reason that it gave."""
    service = await start()

    def fail(child: Child) -> None:
        child.say(failure="no certificate")
        child.exit(0)

    crowd.begin = fail
    crowd.children[1].exit(1)
    await service.stopping.wait()
    assert service.failure.endswith("of the last one, no certificate")
    await service.drain()


async def test_what_does_not_start_at_first_is_not_served(
    autojump_clock: Clock, crowd: Crowd
) -> None:
    """The error is what the worker said; the others are stopped."""

    def fail_second(child: Child) -> None:
        if child.pid == 1:
            begin(child)
        else:
            child.say(failure="a fault cannot happen there")
            child.exit(0)

    crowd.begin = fail_second
    service = Workers(2, line_of, techo.Limits(), None)
    with pytest.raises(ValueError, match=r"^a fault cannot happen there$"):
        await service.serve(Endpoint.parse("tcp://127.0.0.1:0"))
    assert crowd.children[1].told == ["stop"]
    assert service.endpoints == ()


async def test_what_was_counted_is_asked_for(
    autojump_clock: Clock, crowd: Crowd, start: Start
) -> None:
    """Whoever does not answer within a second has what it reported last."""
    service = await start()
    crowd.children[1].counted = functools.partial(counted, 10)
    crowd.children[2].counted = functools.partial(counted, 100)
    assert service.statistics().accepted == 2
    assert await service.refresh()
    assert service.statistics().accepted == 110
    crowd.children[1].deaf = True
    crowd.children[2].counted = functools.partial(counted, 200)
    begun = trio.current_time()
    assert not await service.refresh()
    assert trio.current_time() == begun + 1
    assert service.statistics().accepted == 210
    crowd.children[1].deaf = False
    crowd.children[1].returncode = 0  # its end has not been seen yet
    assert await service.refresh()  # what is gone does not hang


@contextlib.asynccontextmanager
async def reloading(service: Workers, crowd: Crowd) -> AsyncIterator[list[Child]]:
    """Reload for the length of a block; the successors wait in the list to begin."""
    waiting: list[Child] = []
    crowd.begin = waiting.append
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.reload)
        await trio.testing.wait_all_tasks_blocked()
        yield waiting


async def test_a_reload_replaces_one_after_the_other(
    autojump_clock: Clock, crowd: Crowd, start: Start
) -> None:
    """An old one is asked to drain when its successor listens, and not before."""
    service = await start()
    async with reloading(service, crowd) as waiting:
        assert crowd.alive == [1, 2, 3]
        assert not await service.reload()  # it is done once more, later
        begin(waiting.pop())
        await trio.testing.wait_all_tasks_blocked()
        assert crowd.alive == [2, 3, 4]
        crowd.begin = begin
        begin(waiting.pop())
    assert crowd.alive == [5, 6]
    assert service.statistics().accepted == 6
    assert service.failure == ""


async def test_a_reload_that_fails_keeps_what_runs(
    autojump_clock: Clock, crowd: Crowd, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one line, and no death; one that never gets ready is given up."""
    service = await start()
    crowd.begin = lambda _child: None
    assert await service.reload()
    assert crowd.alive == [1, 2]
    assert caplog.messages == [
        "reload failed: worker 1 (process 3) did not start; what runs goes on"
    ]
    assert not service.failure


async def test_a_death_while_it_is_replaced_leaves_one_of_them(
    autojump_clock: Clock, crowd: Crowd, start: Start
) -> None:
    """The successor that the reload has started is the only one."""
    service = await start()
    async with reloading(service, crowd) as waiting:
        crowd.children[1].exit(1)
        await trio.testing.wait_all_tasks_blocked()
        crowd.begin = begin
        begin(waiting.pop())
    assert crowd.alive == [3, 4]


async def test_who_does_not_drain_is_killed(
    autojump_clock: Clock, crowd: Crowd, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """Five seconds after the drain should have been over."""
    service = await start()
    crowd.children[2].deaf = True
    begun = trio.current_time()
    await service.drain()
    assert trio.current_time() == begun + 15
    assert [crowd.children[pid].returncode for pid in (1, 2)] == [0, -9]
    assert caplog.messages == ["worker 2 (process 2) does not end; it is killed"]


async def test_cancellation_stops_all_at_once(
    autojump_clock: Clock, crowd: Crowd, start: Start
) -> None:
    """They still say what they have counted; who does not within two seconds is killed."""
    service = Workers(2, line_of, techo.Limits(), None)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.serve, Endpoint.parse("tcp://127.0.0.1:0"))
        crowd.children[1].deaf = True
        crowd.children[2].counted = functools.partial(counted, 7)
        begun = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == begun + 2
    assert [each.told for each in crowd.children.values()] == [["stop"], ["stop"]]
    assert [crowd.children[pid].returncode for pid in (1, 2)] == [-9, 0]
    assert service.statistics().accepted == 8


async def test_all_leave_together(autojump_clock: Clock, crowd: Crowd, start: Start) -> None:
    """Each is told to end its connections with their next replies, a later one too."""
    service = await start()
    service.leave()
    await trio.testing.wait_all_tasks_blocked()
    crowd.children[1].exit(1)
    await trio.testing.wait_all_tasks_blocked()
    assert [each.told for each in crowd.children.values()] == [["leave"]] * 3
