"""The ping command: prints what comes of each probe, until it is over or told to stop."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

import attrs
import trio

from techo._cli.complaints import refuse
from techo._cli.measuring import ping_output
from techo._cli.measuring.verdict import any_fired, complain_of, never_reached
from techo._cli.tls import client_context
from techo._nursery import open_bare_nursery
from techo._ping.ping import Ping
from techo._ping.ping import ping as start
from techo._ping.results import PingResult
from techo._ping.statistics import PERCENTS, PingStatistics
from techo._probing.causes import FailureCause

_STOP: Final = (signal.SIGINT, signal.SIGTERM)
_REPORT: Final = tuple(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name))
"""Windows has none."""

_NANOSECONDS: Final = 1_000_000_000
_TERMINAL: Final = 0
"""Standard input, if that is where the Enter key is."""
_BACKGROUND: Final = 1.0
"""Seconds between two looks at the terminal while what is typed there is for others."""


def ping(options: argparse.Namespace) -> int:
    """Probe until it is over, and give the exit code: minus the signal's number for SIGINT."""
    try:
        tls = client_context(options)
        pinging = start(
            options.endpoint,
            count=options.count,
            interval=options.interval,
            timeout=options.timeout,
            size=options.size,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
        )
        command = _Ping(pinging, options)
        # The handlers that come back in the end let late signals pass: the summary is printed.
        for number in (*_STOP, *_REPORT):
            signal.signal(number, signal.SIG_IGN)
        trio.run(command.run)
    except ValueError as error:
        return refuse(str(error))
    return command.verdict()


@attrs.define(eq=False)
class _Ping:
    """One ping, the signals and the key that it listens to."""

    ping: Ping
    options: argparse.Namespace
    _stop: int = 0
    """The signal that asked for the end."""

    async def run(self) -> None:
        with trio.open_signal_receiver(*_STOP, *_REPORT) as signals:
            async with open_bare_nursery() as nursery, self.ping:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                if os.isatty(_TERMINAL):
                    nursery.start_soon(self._heed_enter)
                async for result in self.ping:
                    self._print(result)
                nursery.cancel_scope.cancel(reason="no more probes")
        self._print_summary()

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        async for number in signals:
            if number in _REPORT:
                self._print_so_far()
            else:
                self._stop = number
                scope.cancel(reason="a signal")

    async def _heed_enter(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(_TERMINAL)
            # Whoever reads a terminal in the background is stopped by it (termios(3)).
            if not _in_front():
                await trio.sleep(_BACKGROUND)  # nothing tells when we are in front again
            elif os.read(_TERMINAL, 1024):  # and not just Ctrl-D
                self._print_so_far()

    def _print(self, result: PingResult) -> None:
        if self.options.quiet:
            return
        if self.options.json:
            line = ping_output.object_of(result)
        else:
            line = ping_output.line_of(str(self.options.endpoint), result)
            if self.options.timestamps:
                line = f"[{result.at:.6f}] {line}"
        print(line, flush=True)

    def _print_so_far(self) -> None:
        sys.stderr.write(ping_output.so_far(self.ping.statistics()) + "\n")

    def _print_summary(self) -> None:
        statistics = self.ping.statistics()
        if self.options.json:
            print(json.dumps(statistics.to_json()))
        else:
            sweep = isinstance(self.options.size, range)
            print(*ping_output.summary(statistics, sweep=sweep), sep="\n")

    def verdict(self) -> int:
        """Say what was bad, if something was, and give the exit code."""
        statistics = self.ping.statistics()
        if statistics.never_reached:
            return never_reached(self.options.endpoint, statistics.failures)
        fired = any_fired(self.options.fail_if, _figures(statistics))
        if not statistics.received:
            return complain_of(f"none of {statistics.sent} probes came back")
        if fired:
            return 1
        return -signal.SIGINT if self._stop == signal.SIGINT else 0


def _in_front() -> bool:
    """Whether what is typed on a terminal is for us."""
    try:
        return os.tcgetpgrp(_TERMINAL) == os.getpgrp()
    except OSError:  # it is no terminal, or not ours
        return False


def _figures(statistics: PingStatistics) -> dict[str, float | None]:
    """Give what rules are about: times in nanoseconds, the loss in per cent, counts."""
    longest = statistics.longest_outage
    counts = ("sent", "received", "lost", "late", "duplicate", "corrupt", "reconnects")
    return {
        **{cause: statistics.failures.get(cause, 0) for cause in FailureCause},
        **{name: getattr(statistics, name) for name in counts},
        "loss": statistics.loss,
        **statistics.rtt.figures(*PERCENTS),
        "avg": statistics.rtt.mean,
        "mdev": statistics.mdev,
        "jitter": statistics.jitter,
        "outage": 0 if longest is None else longest.seconds * _NANOSECONDS,
    }
