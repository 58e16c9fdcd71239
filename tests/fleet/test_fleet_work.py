"""What runs on a machine of a fleet, of which nothing is left there, whatever happens."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio

import techo
import techo.fleet
from helpers import PATIENCE
from techo._fleet import member, work
from techo._fleet.order import Order
from techo._fleet.post import PostOrder, hold
from techo._fleet.share import carry_out_share
from techo._load.plan import LoadPlan


@attrs.define(eq=False)
class BusyCluster:
    """Two machines whose threads have other things to do: no task begins."""

    tasks: list[concurrent.futures.Future[Any]] = attrs.field(factory=list)

    def nthreads(self) -> dict[str, int]:
        """Return those that are there."""
        return {"tcp://127.0.0.1:400": 1, "tcp://127.0.0.2:400": 1}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        """Return the names."""
        assert n_workers == -1
        return {"workers": {address: {"name": address} for address in self.nthreads()}}

    def run(self, function: Callable[..., Any], *args: Any, workers: list[str]) -> Any:
        """Call a function as a worker does."""
        return {workers[0]: function(*args)}

    def submit(self, *_args: Any, **_options: Any) -> concurrent.futures.Future[Any]:
        """Keep a task for later."""
        self.tasks.append(concurrent.futures.Future())
        return self.tasks[-1]


async def load(cluster: BusyCluster, stop: trio.Event) -> list[str | None]:
    """Return how the machines of a load have died."""
    report = await techo.fleet.load(cluster, "tcp://127.0.0.1:1", trips=9, stop=stop)
    return [each.died for each in report.parts]


async def mesh(cluster: BusyCluster, stop: trio.Event) -> list[str | None]:
    """Return how those of a mesh have."""
    found = await techo.fleet.mesh(cluster, stop=stop)
    return [each.died for each in found.machines]


@pytest.mark.parametrize("kind", [load, mesh])
async def test_nothing_is_kept_for_what_is_stopped_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[[BusyCluster, trio.Event], Awaitable[list[str | None]]],
) -> None:
    """Its tasks are cancelled, and a worker of many runs collects nothing."""
    monkeypatch.setattr(member, "_SILENCE_AFTER_STOP", 0.3)
    cluster, stop = BusyCluster(), trio.Event()
    stop.set()
    with trio.fail_after(PATIENCE):
        died = await kind(cluster, stop)
    assert died == ["its task had not begun: it may be busy"] * 2
    assert [each.cancelled() for each in cluster.tasks] == [True] * 2
    assert not work._tasks


async def test_a_share_that_nobody_asks_about_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has ordered it is gone, and it must not load for ever."""
    monkeypatch.setattr(work, "ABANDONED", 0.01)
    async with techo.open_server("tcp://127.0.0.1:0") as server:
        order = Order(
            endpoint=server.endpoints[0],
            plan=LoadPlan(seconds=3600.0),
            options=techo.SocketOptions(),
        )
        with trio.fail_after(PATIENCE):
            done = await trio.to_thread.run_sync(
                work.carry_out, carry_out_share, "alone", order.to_json()
            )
    assert done["died"] == "it was ended: nobody seemed to ask any more"
    assert not work._tasks


async def test_a_post_that_nobody_asks_about_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has ordered it is gone, or the scheduler is."""
    monkeypatch.setattr(work, "ABANDONED", 0.2)
    order = PostOrder(
        host="127.0.0.1",
        allow=("127.0.0.1",),
        count=1,
        interval=1.0,
        timeout=1.0,
        size=64,
    )
    with trio.fail_after(PATIENCE):
        done = await trio.to_thread.run_sync(work.carry_out, hold, "alone", order.to_json())
    assert done == {}
    assert not work._tasks
