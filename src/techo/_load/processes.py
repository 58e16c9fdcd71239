"""Processes: a load divided among children, which begin at one moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import trio

from techo._load.plan import LoadPlan
from techo._load.report import LoadReport
from techo._load.share_process import follow
from techo._load.sharing import divide, head_start
from techo._load.together import Share, Together
from techo._nursery import first_of, open_bare_nursery
from techo._operate.processes import Channel, Child, Message, open_child

_SOON: Final = 0.05
"""Seconds until they begin once all are ready: enough for each to hear of it."""


@attrs.define(eq=False)
class LoadProcesses:
    """One load in several processes."""

    endpoint: str
    plan: LoadPlan
    count: int
    command: Callable[[int, int], Sequence[str]]
    """Returns the command line of a child, from its number from 0 and the descriptor of its
    channel."""
    watch: Callable[[LoadReport], None]
    """Called with the sum so far, a few times a second."""
    stop: trio.Event
    _agreed: trio.Event = attrs.field(factory=trio.Event)
    """It is known when to begin."""
    _begin: float | None = None
    """When, in seconds of CLOCK_MONOTONIC; None for not at all."""
    _together: Together = attrs.field(init=False)

    @_together.default
    def _divide(self) -> Together:
        names = [f"process {number + 1}" for number in range(self.count)]
        return Together.of(self.endpoint, divide(self.plan, self.count), names)

    async def run(self) -> LoadReport:
        """Run them all until the end, and report. Cancellation kills them.

        Raises:
            ValueError: a child refuses what it is asked for; the text is why.
            OSError: a process cannot be started.
        """
        together = self._together
        try:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(together.show, self.watch)
                for number, share in enumerate(together.shares):
                    nursery.start_soon(self._run_one, number, share)
                if await together.until_ready():
                    self._begin = time.monotonic() + _SOON
                self._agreed.set()
        except ExceptionGroup as group:
            raise first_of(group) from None
        return together.report()

    async def _run_one(self, number: int, share: Share) -> None:
        def command(channel: int) -> Sequence[str]:
            return self.command(number, channel)

        async with open_child(command) as child, trio.open_nursery() as nursery:
            nursery.start_soon(self._stop, child.channel)
            nursery.start_soon(self._start, child.channel, number)
            await self._listen(child, share)
            nursery.cancel_scope.cancel(reason="it is over")

    async def _stop(self, channel: Channel) -> None:
        await self.stop.wait()
        self._together.stopped = True
        await channel.send({"do": "stop"})

    async def _start(self, channel: Channel, number: int) -> None:
        await self._agreed.wait()
        at = self._begin
        if at is not None:
            at += head_start(self.plan, number)
        await channel.send({"do": "begin", "at": at})

    async def _listen(self, child: Child, share: Share) -> None:
        """Take in what a child says until it is over, or is gone without a word."""

        def ready(reached: bool) -> None:  # noqa: FBT001  -- see `follow`
            self._together.ready(share, reached=reached)

        def take(message: Message) -> None:
            spans = message.get("spans", ())
            report = LoadReport.from_json(message["report"])
            report = attrs.evolve(report, outage_spans=[*map(tuple, spans)])
            self._together.take(share, report, over=message["over"])

        if (how := await follow(child, ready, take)) is not None:
            self._together.bury(share, how)
