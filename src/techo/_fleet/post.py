"""Post: what runs on a machine of a mesh. Dask calls these functions there, by their names.

A post serves on the machine's own address, lets in the fleet alone, and probes the others.
It lives in the thread of a task, and ends when that is said, or when nobody asks any more.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import attrs
import trio

from techo._echo_service import EchoService
from techo._figures import figures_of_ping
from techo._kernel.options import SocketOptions
from techo._nursery import open_bare_nursery
from techo._operate.admission import Admission
from techo._ping.ping import Ping, ping
from techo._ping.statistics import PingStatistics
from techo._printable import printable
from techo.endpoint import Endpoint
from techo.reply import raw

ABANDONED: Final = 10.0
"""Seconds without a question after which a post ends: who has ordered it may be gone."""

_LOOKS: Final = 4
"""Times that is looked at within these."""

_KEPT: Final = 60.0
"""Seconds that what is said to a post is kept before it runs: longer than it is waited for."""

_NOTED: Final = 0.4
"""Seconds between two notes of how far the probes of a pair are."""


@attrs.frozen(kw_only=True)
class PostOrder:
    """What a machine of a mesh is asked to do."""

    run: str
    """Which one; no two have the same."""
    host: str
    """Its own address: there it serves, and from there it probes."""
    allow: tuple[str, ...]
    """Addresses of all machines; others are refused."""
    count: int
    interval: float
    timeout: float
    size: int

    def to_json(self) -> str:
        """Return it as a text."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PostOrder:
        """Read back what `to_json` returned."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "allow": tuple(fields["allow"])})


@attrs.define(eq=False)
class _Post:
    """A post that is here, as other threads see it."""

    endpoint: str | None = None
    """Where it serves; None until it does."""
    turns: list[list[Any]] | None = None
    """When to probe whom: seconds of this machine's CLOCK_MONOTONIC, the number of a machine,
    and its endpoint. None until that is known."""
    found: dict[int, str] = attrs.field(factory=dict)
    """What has become of the probes to each machine, by its number."""
    over: bool = False
    """Whether all was probed."""
    stopped: bool = False
    ended: bool = False
    asked: float = attrs.field(factory=time.monotonic)
    """When somebody asked about it last."""
    token: trio.lowlevel.TrioToken | None = None
    lot: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Where tasks wait for what is said."""


_posts: Final[dict[str, _Post]] = {}


def ask(run: str) -> dict[str, Any]:
    """Return what there is to know of a post: nothing, until it runs."""
    post = _posts.get(run)
    if post is None or post.token is None:
        return {}
    post.asked = time.monotonic()
    over = post.over  # before what was found, which is complete then
    return {"endpoint": post.endpoint, "over": over, "found": dict(post.found)}


def tell(run: str, message: Mapping[str, Any]) -> None:
    """Say to a post whom to probe and when, or to stop probing, or to end."""
    if message["do"] == "end" and run not in _posts:
        return
    _forget_what_never_ran()
    post = _posts.setdefault(run, _Post())
    if message["do"] == "begin":
        post.turns = message["turns"]
    elif message["do"] == "stop":
        post.stopped = True
    else:
        post.ended = True
    if (token := post.token) is not None:
        with contextlib.suppress(trio.RunFinishedError):  # it is just over
            token.run_sync_soon(post.lot.unpark_all)


def _forget_what_never_ran() -> None:
    """Drop what was said to posts that were over by then, or given up before they began."""
    for run, post in [*_posts.items()]:
        if post.token is None and time.monotonic() - post.asked > _KEPT:
            _posts.pop(run, None)


def hold(text: str) -> dict[str, Any]:
    """Hold a post until the end of its run; return why it could not, if so."""
    order = PostOrder.from_json(text)
    post = _posts.setdefault(order.run, _Post())
    try:
        trio.run(functools.partial(_run, order, post))
    except (OSError, ValueError) as error:
        return {"failure": printable(str(error))}
    finally:
        _posts.pop(order.run, None)
    return {"failure": None}


async def _run(order: PostOrder, post: _Post) -> None:
    post.token, post.asked = trio.lowlevel.current_trio_token(), time.monotonic()
    service = EchoService(raw, hook=Admission(allow=order.allow))
    async with open_bare_nursery() as nursery:
        nursery.start_soon(_look_around, post, nursery)
        (place,) = await nursery.start(service.serve, Endpoint(host=order.host, port=0))
        post.endpoint = str(place)
        nursery.start_soon(_probe_all, order, post)
        while not post.ended:
            await post.lot.park()
        nursery.cancel_scope.cancel(reason="the run is over")


async def _probe_all(order: PostOrder, post: _Post) -> None:
    while post.turns is None and not post.stopped:
        await post.lot.park()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_if_stopped, post, nursery.cancel_scope)
        async with trio.open_nursery() as probing:
            for at, number, endpoint in post.turns or ():
                probing.start_soon(_probe, order, post, at, number, endpoint)
        nursery.cancel_scope.cancel(reason="all is probed")
    post.over = True


async def _cancel_if_stopped(post: _Post, scope: trio.CancelScope) -> None:
    while not post.stopped:
        await post.lot.park()
    scope.cancel(reason="it was stopped")


async def _probe(order: PostOrder, post: _Post, at: float, number: int, endpoint: str) -> None:
    await trio.sleep(max(0.0, at - time.monotonic()))
    probes = ping(
        endpoint,
        count=order.count,
        interval=order.interval,
        timeout=order.timeout,
        size=order.size,
        options=SocketOptions(source=order.host),
    )
    async with probes:
        try:
            await _note(post, number, probes)
        finally:
            post.found[number] = _as_json(probes.statistics())


async def _note(post: _Post, number: int, probes: Ping) -> None:
    """Note how far it is, now and then, until all probes are over."""
    noted = trio.current_time()
    async for _ in probes:
        if (now := trio.current_time()) >= noted + _NOTED:
            post.found[number] = _as_json(probes.statistics())
            noted = now


def _as_json(found: PingStatistics) -> str:
    names = ("sent", "received", "lost", "missed")
    return json.dumps(
        {
            **{name: getattr(found, name) for name in names},
            "failures": {str(cause): count for cause, count in found.failures.items()},
            "latency": found.latency.to_json(),
            "figures": {str(name): each for name, each in figures_of_ping(found).items()},
        }
    )


async def _look_around(post: _Post, nursery: trio.Nursery) -> None:
    """End if nobody asks any more."""
    while time.monotonic() - post.asked < ABANDONED:  # noqa: ASYNC110  -- asking is no event
        await trio.sleep(ABANDONED / _LOOKS)
    nursery.cancel_scope.cancel(reason="nobody asks any more")
