"""The process of a share of a load, and who follows it: both ends of what they say.

The process says whether it has a connection, then how far it is, a few times a second. It is
told when to begin, and maybe to stop; it ends when the other end of the channel does.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import attrs
import trio

from techo._load.report import LoadReport
from techo._nursery import open_bare_nursery
from techo._operate.processes import Channel, Child, Message
from techo._printable import printable

_GONE: Final = 5.0
"""Seconds that a process has to be over once it has closed its channel."""


@attrs.define(eq=False)
class ShareProcess:
    """One share, and the channel by which the parent governs it."""

    load: Callable[..., Awaitable[LoadReport]]
    """Carries it out, with `watch`, `stop` and `agree` as `carry_out` has them."""
    sock: socket.socket
    silence: float = math.inf
    """Seconds without a message after which it stops: the parent may have none any more for
    whom it is."""
    _channel: Channel = attrs.field(init=False)
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _agreed: trio.Event = attrs.field(factory=trio.Event)
    _begin: float | None = None
    """When all begin, in seconds of CLOCK_MONOTONIC; None for not at all."""
    _latest: LoadReport | None = None
    """What was not sent yet."""
    _reported: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """Carry it out, unless the parent is gone."""
        self._channel = Channel.of(self.sock)
        try:
            await self._run()
        except ValueError as error:
            await self._channel.send({"failure": printable(str(error))})
        finally:
            self._channel.close()

    async def _run(self) -> None:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._obey, nursery)
            nursery.start_soon(self._report)
            report = await self.load(watch=self._watch, stop=self._stop, agree=self._agree)
            last = {"report": report.to_json(), "over": True, "spans": report.outage_spans}
            await self._channel.send(last)
            nursery.cancel_scope.cancel(reason="the load is over")

    async def _agree(self, reached: bool) -> float | None:  # noqa: FBT001  -- see `Agree`
        """Have all begin at the same moment."""
        await self._channel.send({"reached": reached})
        await self._agreed.wait()
        if self._begin is None:
            return None
        return trio.current_time() + self._begin - time.monotonic()

    def _watch(self, report: LoadReport) -> None:
        self._latest = report
        self._reported.set()

    async def _report(self) -> NoReturn:
        """Send each report; where that takes longer than it should, only the latest."""
        while True:
            await self._reported.wait()
            self._reported = trio.Event()
            if self._latest is not None:
                await self._channel.send({"report": self._latest.to_json(), "over": False})

    async def _obey(self, nursery: trio.Nursery) -> None:
        """Do what the parent says; end at once if it is gone."""
        while True:
            with trio.move_on_after(self.silence) as patience:
                message = await self._channel.receive()
                if message is None:
                    break
                if message["do"] == "begin":
                    self._begin = message["at"]
                    self._agreed.set()
                elif message["do"] == "stop":
                    self._stop.set()
            if patience.cancelled_caught:
                self._stop.set()
        nursery.cancel_scope.cancel(reason="the parent is gone")


async def follow(
    child: Child, ready: Callable[[bool], None], take: Callable[[Message], None]
) -> str | None:
    """Take in what a process of a share says until that is over.

    `ready` is called with whether it has a connection, and `take` with each message that has a
    report. Returns how the process has ended, if that was before it was over; None otherwise.

    Raises:
        ValueError: it refuses what it is asked for; the text is why.
    """
    while (message := await child.channel.receive()) is not None:
        if "failure" in message:
            raise ValueError(message["failure"])
        if "report" in message:
            take(message)
            if message["over"]:
                return None
        else:
            ready(message["reached"])
    with trio.move_on_after(_GONE):
        await child.process.wait()
    child.process.kill()
    code = await child.process.wait()
    return f"it was ended by signal {-code}" if code < 0 else f"its exit status was {code}"
