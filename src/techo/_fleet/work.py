"""Work: what runs on a machine of a fleet. Dask calls these functions there, by their names.

A share runs in the thread of a task. What governs it comes by calls of their own, which the
machine answers between other things; a share that nobody asks about any more ends by itself.
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

from techo._fleet.order import Order
from techo._load.load import carry_out
from techo._load.report import LoadReport
from techo._nursery import open_bare_nursery
from techo._printable import printable

ABANDONED: Final = 10.0
"""Seconds without a question after which a share stops: who has ordered it may be gone."""

_LOOKS: Final = 4
"""Times that is looked at within these."""

_KEPT: Final = 60.0
"""Seconds that what is said to a share is kept before it runs: longer than it is waited for."""


@attrs.define(eq=False)
class _Share:
    """A share that is carried out here, as other threads see it."""

    reached: bool | None = None
    """Whether there is a connection; None until each was tried."""
    report: LoadReport | None = None
    """The latest."""
    decided: bool = False
    """Whether it is known when to begin."""
    begin: float | None = None
    """When, in seconds of this machine's CLOCK_MONOTONIC; None for not at all."""
    stopped: bool = False
    aborted: bool = False
    asked: float = attrs.field(factory=time.monotonic)
    """When somebody asked about it last."""
    token: trio.lowlevel.TrioToken | None = None
    lot: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    """Where tasks wait for what is said."""


_shares: Final[dict[str, _Share]] = {}


def hello() -> str:
    """Return the version of techo here."""
    from techo import __version__  # noqa: PLC0415  -- the house's front door is above this room

    return __version__


def clocks() -> tuple[float, float]:
    """Return what this machine's clocks say: Unix time, and CLOCK_MONOTONIC."""
    return time.time(), time.monotonic()


def ask(run: str) -> dict[str, Any]:
    """Return what there is to know of a share: nothing, until it runs."""
    share = _shares.get(run)
    if share is None or share.token is None:
        return {}
    share.asked = time.monotonic()
    report = share.report
    return {
        "reached": share.reached,
        "report": None if report is None else json.dumps(report.to_json()),
    }


def tell(run: str, message: Mapping[str, Any]) -> None:
    """Say to a share when to begin, or to stop, or to end at once."""
    _forget_what_never_ran()
    share = _shares.setdefault(run, _Share())  # this may come before it runs
    if message["do"] == "begin":
        share.begin, share.decided = message["at"], True
    elif message["do"] == "stop":
        share.stopped = True
    else:
        share.aborted = True
    if (token := share.token) is not None:
        with contextlib.suppress(trio.RunFinishedError):  # it is just over
            token.run_sync_soon(share.lot.unpark_all)


def _forget_what_never_ran() -> None:
    """Drop what was said to shares that were over by then, or given up before they began."""
    for run, share in [*_shares.items()]:
        if share.token is None and time.monotonic() - share.asked > _KEPT:
            _shares.pop(run, None)


def carry_out_share(text: str) -> dict[str, Any]:
    """Carry out an order; return the last report as JSON, or why it was refused."""
    order = Order.from_json(text)
    share = _shares.setdefault(order.run, _Share())
    try:
        report = trio.run(functools.partial(_run, order, share))
    except ValueError as error:
        return {"failure": printable(str(error))}
    finally:
        _shares.pop(order.run, None)
    return {"report": None if report is None else json.dumps(report.to_json())}


async def _run(order: Order, share: _Share) -> LoadReport | None:
    share.token, share.asked = trio.lowlevel.current_trio_token(), time.monotonic()
    stop, report = trio.Event(), None
    tls = order.tls

    async def agree(reached: bool) -> float | None:  # noqa: FBT001  -- see `Agree`
        share.reached = reached
        while not share.decided:
            await share.lot.park()
        if share.begin is None:
            return None
        return trio.current_time() + share.begin - time.monotonic()

    def watch(latest: LoadReport) -> None:
        share.report = latest

    async with open_bare_nursery() as nursery:
        nursery.start_soon(_obey, share, stop, nursery)
        nursery.start_soon(_look_around, share, stop)
        report = await carry_out(
            order.plan,
            order.endpoint,
            tls=None if tls is None else tls.context(),
            server_name=None if tls is None else tls.server_name,
            options=order.options,
            watch=watch,
            stop=stop,
            agree=agree,
        )
        nursery.cancel_scope.cancel(reason="the load is over")
    return report


async def _obey(share: _Share, stop: trio.Event, nursery: trio.Nursery) -> None:
    while not share.aborted:
        if share.stopped:
            stop.set()
        await share.lot.park()
    nursery.cancel_scope.cancel(reason="its client asked for an end at once")


async def _look_around(share: _Share, stop: trio.Event) -> None:
    """Stop if nobody asks any more."""
    while time.monotonic() - share.asked < ABANDONED:  # noqa: ASYNC110  -- asking is no event
        await trio.sleep(ABANDONED / _LOOKS)
    stop.set()
