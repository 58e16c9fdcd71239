"""A mesh without Dask: machines are threads of this process, each with a loopback address."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
import trio

import techo
from helpers import PATIENCE
from techo._fleet import machines, member, work
from techo._fleet.machines import FleetError
from techo._fleet.mesh import mesh
from techo._mesh.report import Mesh
from techo._rules import PING


@attrs.define(eq=False)
class Cluster:
    """A scheduler and its workers, as far as a mesh can see them."""

    workers: dict[str, str]
    """Their names, by address."""
    pool: concurrent.futures.ThreadPoolExecutor
    gone: bool = False
    """Whether the scheduler is."""
    lost: set[str] = attrs.field(factory=set)
    """Workers that the scheduler does not know any more, and that do not answer."""
    still: set[str] = attrs.field(factory=set)
    """Workers that stand still, and answer when it is over."""
    over: threading.Event = attrs.field(factory=threading.Event)
    stands_still: Callable[[str, Callable[..., Any], Any], bool] = lambda *_: False
    """Whether a worker stands still after an answer."""
    answered: Callable[[str, Any], None] = lambda _address, _found: None
    """Called with each answer to a question."""

    def nthreads(self) -> dict[str, int]:
        """Return those that are there."""
        self.check_there()
        return {address: 1 for address in self.workers if address not in self.lost}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        """Return the names."""
        assert n_workers == -1
        return {"workers": {address: {"name": name} for address, name in self.workers.items()}}

    def run(self, function: Callable[..., Any], *args: Any, workers: list[str]) -> Any:
        """Call a function as a worker does."""
        (address,) = workers
        self.check_there()
        if address in self.lost:
            raise OSError("connection refused")
        if address in self.still:
            self.over.wait(PATIENCE)
        found = function(*args)
        if self.stands_still(address, function, found):
            self.still.add(address)
        if function is work.ask and found is not None:
            self.answered(address, found)
        return {address: found}

    def submit(self, function: Callable[..., Any], *args: Any, **_: Any) -> Any:
        """Run a task as a worker does, in a thread."""
        task = self.pool.submit(function, *args)
        task.cancel = self.check_there  # type: ignore[assignment,method-assign]
        return task

    def check_there(self) -> None:
        """Raise what Dask's client does when the scheduler is gone."""
        if self.gone:
            raise RuntimeError("Client is closed")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster of three machines."""
    names = {f"tcp://127.0.0.{number}:400": name for number, name in enumerate("ABC", 1)}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        made = Cluster(names, pool)
        monkeypatch.setattr(member, "_LAST_WORD", 0.3)  # for those that stand still
        try:
            yield made
        finally:
            made.over.set()


def end_posts() -> None:
    """End those of machines that are lost, and not dead: else they would end later."""
    for run in [*work._tasks]:
        work.tell(run, {"do": "end"})


async def measured(cluster: Cluster, **options: Any) -> Mesh:
    """Return a mesh, but do not wait for it for ever."""
    with trio.fail_after(PATIENCE):
        return await mesh(cluster, **{"count": 5, "interval": 0.01, **options})


@pytest.mark.parametrize("in_turns", [False, True], ids=["at-once", "in-turns"])
async def test_every_machine_probes_all_the_others(
    cluster: Cluster,
    in_turns: bool,  # noqa: FBT001  -- pytest gives it by name
) -> None:
    """Each pair has its figures, and all servers have ended with the run."""
    if in_turns:
        del cluster.workers["tcp://127.0.0.3:400"]  # a turn less to wait for
    found = await measured(cluster, in_turns=in_turns, timeout=0.9)
    names = [each.name for each in found.machines]
    assert [name[0] for name in names] == (["A", "B"] if in_turns else ["A", "B", "C"])
    assert [(each.source, each.target) for each in found.pairs] == [
        (one, other) for one in names for other in names if one != other
    ]
    for each in found.pairs:
        assert (each.sent, each.received + each.lost) == (5, 5)
        assert each.received
        assert each.latency.count == each.received
        assert each.figures.keys() >= PING.keys()
    assert found.in_turns is in_turns
    assert not any(each.died for each in found.machines)
    hosts = [techo.Endpoint.parse(str(each.endpoint)).host for each in found.machines]
    assert hosts == [f"127.0.0.{number}" for number in range(1, len(names) + 1)]
    await trio.to_thread.run_sync(cluster.pool.shutdown)
    assert not work._tasks
    place = techo.Endpoint.parse(str(found.machines[0].endpoint))
    with pytest.raises(ConnectionRefusedError):
        exchanged(place, "127.0.0.1")


async def test_a_machine_that_dies_is_named_and_the_others_go_on(cluster: Cluster) -> None:
    """What it had reported until then is kept."""
    dead = "tcp://127.0.0.3:400"

    def answered(address: str, found: Any) -> None:
        if address == dead and found.get("found"):
            cluster.lost.add(dead)

    cluster.answered = answered
    found = await measured(cluster, count=20, interval=0.05)
    assert [each.died for each in found.machines] == [None, None, "the scheduler has lost it"]
    third = found.machines[2].name
    assert all(each.received for each in found.pairs if third not in (each.source, each.target))
    assert {each.source for each in found.measured} == {
        each.name for each in found.machines[:2]
    }
    end_posts()


async def test_a_scheduler_that_is_gone_ends_it_with_what_there_is(cluster: Cluster) -> None:
    """Each machine says why, and no error of Dask's comes out."""

    def answered(_address: str, found: Any) -> None:
        if found.get("found"):
            cluster.gone = True

    cluster.answered = answered
    found = await measured(cluster, count=100_000)
    assert {each.died for each in found.machines} == {"the scheduler is gone (RuntimeError)"}
    end_posts()


async def test_stopping_ends_it_with_what_there_is(cluster: Cluster) -> None:
    """All machines report what came back until then, and meanwhile."""
    stop, token = trio.Event(), trio.lowlevel.current_trio_token()
    seen, so_far = set[str](), list[int]()

    def answered(address: str, found: Any) -> None:
        if found.get("found"):
            seen.add(address)
        if len(seen) == len(cluster.workers) and so_far and so_far[-1]:
            token.run_sync_soon(stop.set)

    cluster.answered = answered

    def watch(mesh: Mesh) -> None:
        so_far.append(sum(each.received for each in mesh.pairs))

    found = await measured(cluster, count=100_000, watch=watch, stop=stop)
    assert so_far == sorted(so_far)
    assert 0 < so_far[-1] <= sum(each.received for each in found.pairs)
    assert all(0 < each.received < 100_000 for each in found.pairs)
    assert [each.died for each in found.machines] == [None] * 3


async def test_cancelling_ends_all_servers(cluster: Cluster) -> None:
    """No machine goes on serving for nobody."""
    token = trio.lowlevel.current_trio_token()
    with trio.CancelScope() as scope:
        cluster.answered = lambda _address, found: (
            token.run_sync_soon(scope.cancel) if found.get("found") else None
        )
        await measured(cluster, count=100_000)
    assert scope.cancelled_caught
    await trio.to_thread.run_sync(cluster.pool.shutdown)
    assert not work._tasks


async def test_a_machine_that_stands_still_at_first_is_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, with the remedy, and not waited for without end."""
    monkeypatch.setattr(machines, "FIRST_ANSWER", 0.2)
    cluster.still.add("tcp://127.0.0.2:400")
    with pytest.raises(FleetError, match=r"machine B \(127.* not answered within 0\.2 s"):
        await measured(cluster)


@pytest.mark.parametrize("last", [work.hello, work.ask], ids=["at-first", "ready"])
async def test_one_that_stands_still_later_is_lost(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, last: Callable[..., Any]
) -> None:
    """The mesh ends, even if it has not heard of the beginning, or told its clock."""
    monkeypatch.setattr(member, "SILENCE", 1.0)
    cluster.stands_still = lambda address, function, found: (
        address.endswith("3:400")
        and function is last
        and (function is work.hello or "endpoint" in (found or {}))
    )
    found = await measured(cluster)
    assert str(found.machines[2].died).startswith("no word from it for ")
    assert {each.source for each in found.measured} <= {
        each.name for each in found.machines[:2]
    }
    end_posts()


async def test_one_that_stands_still_is_not_waited_for_after_a_stop(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others have found until then is reported soon."""
    monkeypatch.setattr(member, "_SILENCE_AFTER_STOP", 0.5)
    stop, token = trio.Event(), trio.lowlevel.current_trio_token()

    def answered(address: str, found: Any) -> None:
        if address.endswith("3:400") and len(found.get("found", {})) == 2:
            cluster.still.add(address)
            token.run_sync_soon(stop.set)

    cluster.answered = answered
    began = trio.current_time()
    found = await measured(cluster, count=100_000, stop=stop)
    assert trio.current_time() < began + machines.SILENCE
    assert str(found.machines[2].died).startswith("no word from it for ")
    end_posts()


async def test_only_the_fleet_is_let_in(cluster: Cluster) -> None:
    """Another address is refused, and what it sends is not echoed."""
    came = list[tuple[str, bytes]]()

    def answered(address: str, found: Any) -> None:
        if address.endswith("1:400") and found.get("endpoint") and not came:
            place = techo.Endpoint.parse(found["endpoint"])
            for host in ("127.0.0.9", "127.0.0.2"):
                came.append((host, exchanged(place, host)))

    cluster.answered = answered
    await measured(cluster)
    assert came == [("127.0.0.9", b""), ("127.0.0.2", b"hello")]


def exchanged(place: techo.Endpoint, host: str) -> bytes:
    """Return what comes back of what a host sends."""
    with socket.create_connection(
        (place.host, place.port), timeout=PATIENCE, source_address=(host, 0)
    ) as sock:
        sock.sendall(b"hello")
        try:
            return sock.recv(5)
        except ConnectionResetError:
            return b""


async def test_a_machine_that_cannot_serve_says_why(cluster: Cluster) -> None:
    """Its address is not its own, as behind a NAT; the others are a mesh without it."""
    del cluster.workers["tcp://127.0.0.3:400"]
    cluster.workers["tcp://192.0.2.1:400"] = "far"
    found = await measured(cluster)
    (why,) = (each.died for each in found.machines if each.died is not None)
    assert why.startswith("it cannot serve on 192.0.2.1 (")
    assert len(found.measured) == 2


class Names(trio.abc.HostnameResolver):
    """Knows one name."""

    async def getaddrinfo(self, host: Any, port: Any, *_: Any) -> Any:
        """Return its address."""
        await trio.lowlevel.checkpoint()
        if host != b"alpha":
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]

    async def getnameinfo(self, *_: Any) -> Any:
        """Nobody asks for that."""
        raise NotImplementedError


async def test_a_machine_may_go_by_a_name(cluster: Cluster) -> None:
    """Its server lets in the address of it, as all do; a name that is unknown is refused."""
    trio.socket.set_custom_hostname_resolver(Names())
    cluster.workers = {"tcp://alpha:400": "A", "tcp://127.0.0.2:400": "B"}
    found = await measured(cluster)
    assert [each.received for each in found.pairs] == [5, 5]
    cluster.workers = {"tcp://beta:400": "A", "tcp://127.0.0.2:400": "B"}
    with pytest.raises(FleetError, match=r"machine A \(beta:400\) is unknown here \(no such"):
        await measured(cluster)


async def test_one_machine_is_no_mesh(cluster: Cluster) -> None:
    """It is refused, as arguments are that make no sense."""
    with pytest.raises(FleetError, match="a mesh takes two machines or more, and this is one"):
        await measured(cluster, machines=1)
    with pytest.raises(ValueError, match="count 0 "):
        await measured(cluster, count=0)
