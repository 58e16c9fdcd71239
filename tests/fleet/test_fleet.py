"""A fleet without Dask: what is asked of a client is done in threads of this process.

So are shares, whose processes would take long to start.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import math
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import attrs
import pytest
import trio

import techo
import techo.fleet
from helpers import PATIENCE
from techo._fleet import share, work
from techo._fleet.cap import check_cap
from techo._fleet.machines import Machine
from techo._fleet.member import Agreement
from techo._fleet.order import FleetTls, Order
from techo._load.plan import LoadPlan
from techo._nursery import open_bare_nursery
from techo._operate.processes import Channel, Child
from techo.endpoint import Endpoint


@attrs.define(eq=False)
class Cluster:
    """A scheduler and its workers, as far as a fleet can see them."""

    workers: dict[str, str]
    """Their names, by address."""
    pool: concurrent.futures.ThreadPoolExecutor
    gone: set[str] = attrs.field(factory=set)
    """Workers that do not answer any more."""
    lost: set[str] = attrs.field(factory=set)
    """Workers that the scheduler does not know any more."""
    versions: dict[str, Any] = attrs.field(factory=dict)
    looks: int = 0
    calls: list[tuple[str, Any]] = attrs.field(factory=list)
    tasks: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    def nthreads(self) -> dict[str, int]:
        """Return those that are there."""
        return {address: 1 for address in self.workers if address not in self.lost}

    def scheduler_info(self, n_workers: int = 1) -> dict[str, Any]:
        """Return as many names as are asked for, -1 is all; each other time none, as Dask."""
        self.looks += 1
        names = [(address, {"name": name}) for address, name in self.workers.items()]
        return {"workers": dict(names[: 0 if self.looks % 2 else n_workers % 99])}

    def run(self, function: Callable[..., Any], *args: Any, workers: list[str]) -> Any:
        """Call a function as a worker does."""
        (address,) = workers
        self.calls.append((address, args))
        if address in self.gone:
            raise OSError("connection refused")
        if function is work.hello and address in self.versions:
            if isinstance(found := self.versions[address], Exception):
                raise found
            return {address: found}
        return {address: function(*args)}

    def submit(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Run a task as a worker does, in a thread."""
        (address,) = keywords["workers"]
        self.tasks.append((address, keywords))
        return self.pool.submit(function, *args)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of three machines."""
    names = {address: address for address in map("tcp://192.0.2.{}:400".format, (1, 2, 3))}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        yield Cluster(names, pool)


@contextlib.asynccontextmanager
async def child_here(command: Callable[[int], Sequence[str]]) -> AsyncIterator[Child]:
    """Have the process of a share run in this one."""
    channel, silence, order = command(-1)[-3:]
    assert channel == "-1"
    ours, theirs = socket.socketpair()
    assert float(silence) == work.ABANDONED
    process = share.share_process(Order.from_json(order), theirs, math.inf)
    async with open_bare_nursery() as nursery:
        nursery.start_soon(process.run)
        child = Child(Any, Channel.of(ours))  # type: ignore[arg-type]  # it does not die
        try:
            yield child
        finally:
            child.channel.close()
            nursery.cancel_scope.cancel(reason="a child is killed then")


@pytest.fixture(autouse=True)
def _shares_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "open_child", child_here)


async def load(cluster: Cluster, target: Any, **options: Any) -> techo.LoadReport:
    """Load, but not for ever."""
    with trio.fail_after(PATIENCE):
        return await techo.fleet.load(cluster, target, **options)


async def test_three_machines_are_one_load(cluster: Cluster) -> None:
    """Every trip is counted once, each machine has a row, and its clock is known."""
    async with techo.open_server("tcp://127.0.0.1:0", reply=techo.raw) as server:
        report = await load(cluster, server.endpoints[0], connections=7, trips=100)
        assert server.statistics().bytes_in == 100 * 64
        assert server.statistics().accepted == 7
    assert (report.received, report.connections, report.unsent) == (100, 7, 0)
    names = [f"192.0.2.{number}:400" for number in (1, 2, 3)]
    assert [(each.name, each.received) for each in report.parts] == [
        *zip(names, (34, 33, 33), strict=True)
    ]
    for each in report.parts:
        assert each.clock_error is not None
        assert each.clock_offset is not None
        assert abs(each.clock_offset) <= 2 * each.clock_error + 0.01
    assert "begun at one moment, to within" in str(report)
    assert not work._tasks  # nothing is left there
    for address, keywords in cluster.tasks:
        assert keywords["key"].startswith("techo-")
        assert keywords == {
            "key": keywords["key"],
            "workers": [address],
            "allow_other_workers": False,
            "pure": False,
            "retries": 0,
        }


async def test_only_so_many_machines_as_are_wanted(cluster: Cluster) -> None:
    """They are the first by address; the others are asked for nothing."""
    cluster.workers = dict(reversed(cluster.workers.items()))
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        report = await load(cluster, server.endpoints[0], machines=1, trips=10)
    assert (len(report.parts), report.received) == (1, 10)
    assert {address for address, _ in cluster.calls} == {"tcp://192.0.2.1:400"}
    with pytest.raises(
        techo.fleet.FleetError, match="4 machines are wanted, and the scheduler"
    ):
        await load(cluster, "tcp://127.0.0.1:1", machines=4)
    cluster.lost |= set(cluster.workers)
    with pytest.raises(
        techo.fleet.FleetError, match="the scheduler has no workers: start some"
    ):
        await load(cluster, "tcp://127.0.0.1:1")


async def test_a_machine_goes_by_its_name_and_its_address(cluster: Cluster) -> None:
    """One that has no name of its own goes by its address; a list without it loses nobody."""
    cluster.workers["tcp://192.0.2.2:400"] = "frankfurt"
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        report = await load(cluster, server.endpoints[0], trips=30)
    names = [each.name for each in report.parts]
    assert names == ["192.0.2.1:400", "frankfurt (192.0.2.2:400)", "192.0.2.3:400"]
    assert not any(each.died for each in report.parts)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            "9.9",
            rf"machine 192.0.2.2:400 has techo 9\.9, and this one has .* {techo.__version__}",
        ),
        (
            ModuleNotFoundError("No module named 'techo'"),
            "none that answers .ModuleNotFoundError",
        ),
    ],
    ids=["another", "none"],
)
async def test_other_versions_are_refused(cluster: Cluster, found: Any, words: str) -> None:
    """Both are named, before anything is sent."""
    cluster.versions["tcp://192.0.2.2:400"] = found
    with pytest.raises(techo.fleet.FleetError, match=words):
        await load(cluster, "tcp://127.0.0.1:1", trips=9)
    assert not cluster.tasks


async def test_a_machine_that_the_scheduler_has_lost_is_named(cluster: Cluster) -> None:
    """The others go on to the end; what it has not reported is unsent."""
    dead = "tcp://192.0.2.3:400"

    def watch(report: techo.LoadReport) -> None:
        if report.parts[2].received:
            cluster.gone.add(dead)
            cluster.lost.add(dead)

    async with techo.open_server("tcp://127.0.0.1:0") as server:
        report = await load(cluster, server.endpoints[0], rate=150, seconds=2.0, watch=watch)
        # It is lost, and not dead: it would end by itself, when nobody has asked for long.
        for run in [*work._tasks]:
            work.tell(run, {"do": "end"})
    one, other, third = report.parts
    assert third.died == "the scheduler has lost it"
    assert (one.received, other.received, one.died, other.died) == (100, 100, None, None)
    assert 0 < third.received < 100
    assert report.unsent == third.unsent == 100 - third.received


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cancelled for reason: scheduler-connection-lost.\nClient", "the scheduler is gone"),
        ("no\nmore", "its task failed (RuntimeError: no more)"),
    ],
    ids=["scheduler", "task"],
)
async def test_a_task_without_a_result_says_why(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    """It is no error of the load's, whose other machines may have gone on."""

    def fail(*_task: str) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(work, "carry_out", fail)
    report = await load(cluster, "tcp://127.0.0.1:1", trips=30)
    assert [each.died for each in report.parts] == [words] * 3
    assert report.unsent == 30


async def test_stopping_stops_all_of_them(cluster: Cluster) -> None:
    """What was in flight comes back, and the report is of what there was."""
    stop = trio.Event()

    def watch(report: techo.LoadReport) -> None:
        if all(each.received for each in report.parts):
            stop.set()

    async with techo.open_server("tcp://127.0.0.1:0") as server:
        report = await load(
            cluster, server.endpoints[0], seconds=3600.0, watch=watch, stop=stop
        )
    assert min(each.received for each in report.parts) > 0
    assert (report.lost, report.in_flight, report.unsent) == (0, 0, 0)


async def test_cancelling_ends_all_of_them_at_once(cluster: Cluster) -> None:
    """No machine goes on with a load of which nobody wants to know."""
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
            await techo.fleet.load(
                cluster, server.endpoints[0], seconds=3600.0, watch=lambda _: scope.cancel()
            )
        assert scope.cancelled_caught
        with trio.fail_after(PATIENCE):
            await trio.to_thread.run_sync(cluster.pool.shutdown)
    assert not work._tasks


async def test_what_a_machine_refuses_is_raised_here(cluster: Cluster) -> None:
    """Its own file is not there."""
    tls = techo.fleet.FleetTls(ca="/nonexistent")
    with pytest.raises(ValueError, match="cannot use ca '/nonexistent': No such file"):
        await load(cluster, "tls://127.0.0.1:1", tls=tls, trips=9)


async def test_trips_alone_are_not_probed_by_several(cluster: Cluster) -> None:
    """The first would call idle what others still load; the text has the remedy."""
    with pytest.raises(ValueError, match="call it idle; give a duration or a rate"):
        await load(cluster, "tcp://127.0.0.1:1", trips=30, probe=20)
    assert not cluster.tasks


async def test_a_fleet_that_reaches_nobody_says_so(cluster: Cluster) -> None:
    """It does not begin."""
    report = await load(cluster, "tcp://127.0.0.1:1", trips=30, timeout=1.0)
    assert (report.never_reached, "begun at one moment" in str(report)) == (True, False)
    assert set(report.failures) == {techo.FailureCause.REFUSED}


MACHINES = [
    Machine("tcp://192.0.2.1:400", "192.0.2.1", "192.0.2.1:400"),
    Machine("tcp://[2001:db8::1]:400", "2001:db8::1", "[2001:db8::1]:400"),
]


@pytest.mark.parametrize(
    ("rate", "endpoint", "cap", "words"),
    [
        (5000, "tcp://198.51.100.1:7", 5000, None),
        (5001, "tcp://198.51.100.1:7", 5000, "5,001 trips a second to .* give --cap 5001$"),
        (5001, "tcp://198.51.100.1:7", math.inf, None),
        (None, "tcp://198.51.100.1:7", 9000, "without a rate nothing bounds what 2 machines"),
        (None, "tcp://198.51.100.1:7", math.inf, None),
        (None, "tcp://192.0.2.1:7", 5000, None),
        (None, "udp://[2001:db8:0::1]:7", 5000, None),
        (None, "tcp://127.0.0.1:7", 5000, None),
        (None, "tcp://localhost:7", 5000, None),
        (None, "unix:/tmp/s", 5000, None),
        (None, "tcp://example.com:7", 5000, "without a rate"),
    ],
)
def test_a_fleet_is_bounded_but_to_itself(
    rate: float | None, endpoint: str, cap: float, words: str | None
) -> None:
    """A name is none of its machines, but for localhost: it may lead elsewhere from there."""
    check = functools.partial(
        check_cap, LoadPlan(rate=rate), Endpoint.parse(endpoint), MACHINES, cap
    )
    if words is None:
        check()
    else:
        with pytest.raises(techo.fleet.FleetError, match=words):
            check()


def test_an_order_goes_through_json_unharmed() -> None:
    """A machine reads what was meant."""
    order = Order(
        endpoint=Endpoint.parse("tls://[::1]:7"),
        plan=LoadPlan(rate=3.5, seconds=2.0, pipeline=4, reconnect_every=9),
        options=techo.SocketOptions(dscp=46, ip_version=6),
        tls=FleetTls(ca="/ca.pem", insecure=True, server_name="a.example"),
    )
    assert Order.from_json(order.to_json()) == order


def test_questions_come_when_there_is_a_new_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All machines are asked at the same moments after the beginning."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    agreement = Agreement(trio.Event())
    assert agreement.until_report() == pytest.approx(0.1)
    agreement.decide(100.25)
    assert agreement.until_report() == pytest.approx(0.35)
    now = 100.45
    assert agreement.until_report() == pytest.approx(0.3)
