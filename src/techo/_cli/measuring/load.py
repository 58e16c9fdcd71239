"""The load command: runs a load, shows how far it is, and delivers its report."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

import attrs
import trio

from techo._cli.complaints import refuse
from techo._cli.descriptors import shortage
from techo._cli.measuring.load_progress import shown
from techo._cli.measuring.report_delivery import check_deliverable, deliver
from techo._cli.tls import client_context
from techo._load.load import SECONDS
from techo._load.load import load as measure
from techo._load.report import LoadReport
from techo._nursery import open_bare_nursery

_STOP: Final = (signal.SIGINT, signal.SIGTERM)

_SOON: Final = 0.5
"""Seconds after a signal for which nobody asks why it is not over yet."""


def load(options: argparse.Namespace) -> int:
    """Load until it is over, and give the exit code: minus the signal's number for SIGINT."""
    if options.duration is not None and options.trips is not None:
        # Of the two, one may come from the environment, and then the other was meant.
        left_out = {"duration", "trips"}.difference(options.given)
        if len(left_out) != 1:
            return refuse("--duration and --trips: give one of them")
        setattr(options, left_out.pop(), None)
    if (short := shortage(options.connections)) is not None:
        return refuse(f"{short} or lower --connections")
    # The handlers that come back in the end let late signals pass: who stops a load twice
    # gets its report all the same.
    for number in _STOP:
        signal.signal(number, signal.SIG_IGN)
    command = _Load(options)
    try:
        check_deliverable(options, scheduled=options.rate is not None)
        trio.run(command.run)
    except ValueError as error:
        return refuse(str(error))
    if command.report is None:
        return -signal.SIGINT if command.stopped_by == signal.SIGINT else 1
    code = deliver(command.report, options)
    return -signal.SIGINT if not code and command.stopped_by == signal.SIGINT else code


@attrs.define(eq=False)
class _Load:
    """One load, and the signals that it listens to."""

    options: argparse.Namespace
    report: LoadReport | None = None
    """The last there was: that of the end, or if it was not waited for, the one before."""
    stopped_by: int = 0
    """The signal that asked for the end."""
    _stop: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        options = self.options
        with (
            trio.open_signal_receiver(*_STOP) as signals,
            shown(options.warm_up, options.duration or SECONDS, options.trips) as show,
        ):
            async with open_bare_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery)
                self.report = await self._measure(show)
                nursery.cancel_scope.cancel(reason="the load is over")

    async def _measure(self, show: Callable[[LoadReport], None]) -> LoadReport:
        options = self.options
        tls = client_context(options)

        def watch(report: LoadReport) -> None:
            self.report = report
            show(report)

        return await measure(
            options.endpoint,
            connections=options.connections,
            seconds=options.duration,
            trips=options.trips,
            rate=options.rate,
            size=options.size,
            pipeline=options.pipeline,
            warm_up=options.warm_up,
            timeout=options.timeout,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
            watch=watch,
            stop=self._stop,
        )

    async def _heed(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        self.stopped_by = await anext(signals)
        self._stop.set()
        nursery.start_soon(self._explain)
        self.stopped_by = await anext(signals)
        nursery.cancel_scope.cancel(reason="a second signal")

    async def _explain(self) -> None:
        await trio.sleep(_SOON)
        sys.stderr.write("techo: waiting for what is under way; again to stop now\n")
