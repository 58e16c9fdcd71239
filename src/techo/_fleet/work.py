"""Work: what runs on a machine of a fleet. Dask calls these functions there, by their names.

A share runs in a process, for which the thread of a task waits. What governs it comes by calls
of their own, which the machine answers between other things; a share that nobody asks about any
more ends by itself.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import attrs
import trio

from techo._fleet.order import Order
from techo._fleet.share import command_line
from techo._load.share_process import follow
from techo._nursery import open_bare_nursery
from techo._operate.processes import Channel, Message, open_child
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
    report: Mapping[str, Any] | None = None
    """The latest, as JSON has it."""
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
        "report": None if report is None else json.dumps(report),
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
    """Carry out an order; return the last report, why it was refused, or how it died."""
    if os.name == "nt":
        return {"failure": "a machine of a fleet cannot be one with Windows"}
    run = Order.from_json(text).run
    share = _shares.setdefault(run, _Share())
    try:
        died = trio.run(_run, text, share)
    except ValueError as error:
        return {"failure": printable(str(error))}
    finally:
        _shares.pop(run, None)
    if died is not None:
        return {"died": died}
    return {"report": None if share.report is None else json.dumps(share.report)}


async def _run(text: str, share: _Share) -> str | None:
    """Have a process carry out an order; return how it has died, if it has."""
    share.token, share.asked = trio.lowlevel.current_trio_token(), time.monotonic()
    died = None

    def ready(reached: bool) -> None:  # noqa: FBT001  -- see `follow`
        share.reached = reached

    def take(message: Message) -> None:
        share.report = message["report"]

    command = functools.partial(command_line, text, ABANDONED)
    async with open_child(command) as child, open_bare_nursery() as nursery:
        nursery.start_soon(_pass_on, share, child.channel, nursery)
        nursery.start_soon(_look_around, share, child.channel)
        died = await follow(child, ready, take)
        nursery.cancel_scope.cancel(reason="it is over")
    return died


async def _pass_on(share: _Share, channel: Channel, nursery: trio.Nursery) -> None:
    """Say to the process of a share what was said to the share."""
    begun = stopped = False
    while not share.aborted:
        if share.decided and not begun:
            begun = True
            await channel.send({"do": "begin", "at": share.begin})
        elif share.stopped and not stopped:
            stopped = True
            await channel.send({"do": "stop"})
        else:
            await share.lot.park()
    nursery.cancel_scope.cancel(reason="its client asked for an end at once")


async def _look_around(share: _Share, channel: Channel) -> NoReturn:
    """Say that somebody has asked: without a word the process stops, though we stand still."""
    known = -math.inf
    while True:
        if share.asked > known:
            known = share.asked
            await channel.send({"do": "go on"})
        await trio.sleep(ABANDONED / _LOOKS)
