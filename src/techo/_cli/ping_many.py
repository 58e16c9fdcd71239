"""Ping of several targets at once: a watch with a count, and a line for each result."""

from __future__ import annotations

import argparse
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from techo._cli.errors import fail, fell_short, none_reached, refuse
from techo._cli.objects import Objects, taking_objects
from techo._cli.output import print_error, print_lines
from techo._cli.process import shortage
from techo._cli.signals import held, stopping
from techo._cli.targets import targets_of
from techo._cli.watching import Watching
from techo._figures import figures_of_ping
from techo._ping.results import PingFailure, PingReply, PingResult
from techo._ping.text import line_of
from techo._probing.failure_cause import FailureCause
from techo._probing.text import number_of
from techo._quantities import write_seconds
from techo.endpoint import Endpoint

if TYPE_CHECKING:
    from techo._ping.statistics import PingStatistics
    from techo._probing.trip import Clock
    from techo._watch.targets import WatchTarget


def ping_many(options: argparse.Namespace, endpoints: Sequence[Endpoint]) -> int:
    """Probe until the end and return the exit code: minus the signal's number for SIGINT."""
    import trio

    if isinstance(options.size, range):
        return refuse("--size: a range of sizes is for one endpoint; here are several")
    if "clock" in options.given:
        return refuse("--clock is for one endpoint; several are timed by the kernel if it can")
    names = ("interval", "timeout", "size", "connect")
    try:
        same = {name: getattr(options, name) for name in names}
        targets = targets_of(options, endpoints, **same)
        if reason := shortage(len(targets)):
            print_error(f"techo: warning: {reason}")
        with taking_objects(options.output, printed=options.json) as objects:
            command = _PingMany(options, objects)
            heeded = stopping()
            with held(heeded):
                trio.run(command.run, heeded, targets)
    except ValueError as error:
        return refuse(str(error))
    return command.verdict()


@attrs.define(eq=False)
class _PingMany:
    options: argparse.Namespace
    objects: Objects
    _watching: Watching = attrs.field(init=False)
    _clocks: dict[str, Clock] = attrs.field(factory=dict, init=False)
    """What timed the last reply of each target."""
    _reasons: dict[FailureCause, str] = attrs.field(factory=dict, init=False)
    """What was said last of each cause."""
    _found: Mapping[str, PingStatistics] = attrs.field(factory=dict, init=False)

    async def run(
        self, heeded: Sequence[signal.Signals], targets: Sequence[WatchTarget]
    ) -> None:
        import shutil

        from techo._ping.deadline import Deadline
        from techo._watch.text import totals_of
        from techo._watch.watch import watch as start

        options = self.options
        watch = start(targets, count=options.count, results=self._put)
        if options.deadline is not None:
            watch.deadline = Deadline(options.deadline, options.count)
        live = not (options.json or options.quiet)
        self._watching = Watching(watch, lambda _change: None, live=live)
        await self._watching.run(heeded)
        self._found = watch.statistics()
        for each in self._found.values():
            self.objects.put(each.to_json())
        if not self.options.json:
            print_lines(*totals_of(self._found, shutil.get_terminal_size().columns))

    def _put(self, target: WatchTarget, result: PingResult) -> None:
        if isinstance(result, PingFailure):
            self._reasons[result.cause] = result.reason
        fields = {**result.to_json(), "target": target.name}
        self.objects.put(fields, printed=not self.options.quiet)
        if self.options.quiet or self.options.json:
            return
        clock = self._clocks.get(target.name)
        connect, verbose = self.options.connect, self.options.verbose
        line = line_of(target.name, result, clock, connect=connect, verbose=verbose)
        if isinstance(result, PingReply):
            self._clocks[target.name] = result.clock
        print_lines(f"[{result.at:.6f}] {line}" if self.options.timestamps else line)

    def verdict(self) -> int:
        """Report what was bad, if anything was, and return the exit code."""
        found = self._found
        for name, each in found.items():
            if short := each.failures.get(FailureCause.LOCAL):
                return fell_short(name, short, self._reasons.get(FailureCause.LOCAL, ""))
        if all(each.never_reached for each in found.values()):
            causes = sum((Counter(each.failures) for each in found.values()), Counter())
            return none_reached([*found], causes, self._reasons)
        bad = [
            fail(f"{name}: {sentence}")
            for name, each in found.items()
            for sentence in self._complaints(each)
        ]
        if bad or not self.objects.complete:
            return 1
        return -signal.SIGINT if self._watching.stop == signal.SIGINT else 0

    def _complaints(self, statistics: PingStatistics) -> Iterator[str]:
        """Yield what was bad about one target."""
        deadline, count = self.options.deadline, self.options.count or 0
        if not statistics.received:
            yield f"none of {number_of(statistics.sent, 'probe')} came back"
        elif deadline is not None and statistics.received < count:
            came = f"{statistics.received:,} of {count:,}"
            yield f"{came} came back within {write_seconds(deadline)}"
        figures = figures_of_ping(statistics)
        yield from filter(None, (rule.judge(figures) for rule in self.options.fail_if))
