"""The load command: runs a load, shows its progress, and delivers its report."""

from __future__ import annotations

import argparse
import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.bar import open_bar, so_far
from techo._cli.errors import refuse
from techo._cli.fleet import FLEET, check_fleet, load_by_fleet
from techo._cli.intervals import DEFAULT, LEAST, Intervals
from techo._cli.load_plan import plan_of, settle
from techo._cli.loading import (
    CONNECTIONS,
    MESSAGE_SIZE,
    PIPELINE,
    RECONNECT_EVERY,
    TwoSignals,
    reply_timeout,
)
from techo._cli.options import CLIENT, Command, Group, Option, option
from techo._cli.packets import PACKETS, socket_options
from techo._cli.process import shortage
from techo._cli.processes import PROCESSES, processes_of
from techo._cli.readers import (
    NUMBER,
    PROBE_RATE,
    RATE,
    TIME,
    TIME_OR_NONE,
    choice,
    count_form,
    time_form,
)
from techo._cli.report import (
    REPORT_OPTIONS,
    check_deliverable,
    deliver,
)
from techo._cli.rules import names_of
from techo._cli.signals import held, stopping
from techo._cli.tls import client_context
from techo._load.timeline import Timeline
from techo._probing.arrivals import Arrivals
from techo._rules import LOAD
from techo._validation import NATURAL, Requirement

if TYPE_CHECKING:
    import trio

    from techo._load.report import LoadReport

_DESCRIPTION = """\
Every byte that comes back is verified; any echo server will do. Without --rate, a connection
sends its next message when one has come back. With it, trips are due at that rate whatever
comes back. Then each has two times: service time from when it was sent, response time from when
it was due."""

_EXAMPLES: Final = (
    ("techo load -r 2000 -d 5 udp://localhost:8009", "2,000 datagrams a second"),
    ("techo load -c 50 --reconnect-every 1 8009", "connections a second, 50 at a time"),
    ("techo load -d 1 --fail-if 'rate<100'", "exit status 1 if it is slow"),
)

_EXITS: Final = (
    ("0", "nothing failed, and no rule fired"),
    ("1", "something failed, or a rule fired, or nothing came back"),
    ("2", "wrong usage, or never reached, or this machine fell short (cause local)"),
    ("130", "by SIGINT, after Ctrl-C, where it would have been 0"),
)

_NOTES = f"""\
{names_of(LOAD)}
  With --rate, min to max are of the response time, otherwise of the service time.
  send_lag is the most by which a trip was sent too late.
  connect.p99 and the like are of connections opened after the warm-up.
  probe.p50 and the like, and responsiveness, are of --probe under load.
  probe.idle.p50 and the like are of before it, probe.after.p50 of after it.

Ctrl-C ends it with the summary; a second one does not wait for trips in flight. SIGTERM ends it
like Ctrl-C, without changing the status; so does SIGHUP, unless it was ignored at the start
(nohup)."""


_INTERVAL: Final = Requirement(
    f"a number of seconds from {LEAST:g} on", lambda value: value >= LEAST
).or_off(math.inf)

_OPTIONS: Final[Sequence[Option | Group]] = [
    *CLIENT,
    PACKETS,
    CONNECTIONS,
    option("-d --duration", TIME, "how long trips begin, after the warm-up", shown="10s"),
    option(
        "-n --trips",
        NUMBER,
        "how many begin, instead of how long",
        shown="as many as there is time for",
    ),
    option(
        "-r --rate",
        RATE,
        "how many are due in each second, over all connections",
        shown="the next when one has come back",
    ),
    option(
        "--arrivals",
        choice(*Arrivals),
        "with --rate, when trips are due: as long after each other, or at random, as if from "
        "many users (gaps are exponential)",
        default=Arrivals.UNIFORM,
    ),
    option(
        "--seed",
        count_form(NATURAL),
        "of --arrivals poisson; the report has it, and the same one repeats the times",
        shown="a new one",
    ),
    option(
        "--ramp",
        TIME,
        "how long the rate rises evenly from 0 to --rate or, without --rate, connections begin "
        "one after the other. It is counted unless --warm-up, which begins with it, is as long",
        shown="none",
    ),
    MESSAGE_SIZE,
    PIPELINE,
    RECONNECT_EVERY,
    option(
        "--warm-up", TIME_OR_NONE, "how long to load before anything is counted", default=0.0
    ),
    reply_timeout(
        "If nothing has come back at all, or nothing does any more with -n, the load gives up "
        "after this time. Over udp and unixgram it does so after ten times as long"
    ),
    option(
        "--probe",
        PROBE_RATE,
        "send so many small messages a second beside the load, and for at least 2 s before and "
        "after it, on a connection of their own. Their latency idle and under load is shown",
        shown="none",
    ),
    option(
        "--report-every",
        time_form(_INTERVAL),
        "how often to print a line of what was measured since the last one",
        shown="1s; off with --json",
    ),
    PROCESSES,
    FLEET,
    *REPORT_OPTIONS,
]


def load(options: argparse.Namespace) -> int:
    """Load until the end and return the exit code: minus the signal's number for SIGINT."""
    import trio

    try:
        settle(options)
        check_fleet(options)
    except ValueError as error:
        return refuse(str(error))
    here = options.fleet is None
    if here and (short := shortage(options.connections)) is not None:
        return refuse(f"{short} or lower --connections")
    stop = stopping()
    drawn_every = None if options.report_every == math.inf else options.report_every
    command = _Load(options, Timeline(drawn_every))
    try:
        check_deliverable(
            options, scheduled=options.rate is not None, probed=options.probe is not None
        )
        with held(stop):  # a load that is stopped twice delivers its report all the same
            trio.run(command.run, stop)
    except ValueError as error:
        return refuse(str(error))
    if command.report is None:
        return command.signals.exit_code or 1
    last = command.last or command.report
    intervals = () if options.plot is None else command.timeline.intervals(last)
    return deliver(command.report, options, intervals) or command.signals.exit_code


@attrs.define(eq=False)
class _Load:
    """One load, and the signals that end it."""

    options: argparse.Namespace
    timeline: Timeline
    """What is drawn over time."""
    report: LoadReport | None = None
    """The last there was: that of the end, or after a second signal the one before."""
    last: LoadReport | None = None
    """With which the last interval ends: of several processes the last sum that was watched,
    which has no time after each of them gave up."""
    signals: TwoSignals = attrs.field(factory=TwoSignals)

    async def run(self, stop_signals: Sequence[signal.Signals]) -> None:
        from techo._load.plan import SECONDS as DURATION
        from techo._load.probe import idle_seconds

        options = self.options
        idle = 0.0 if options.probe is None else idle_seconds(options.probe)
        seconds = options.duration or DURATION
        progress = _progress(options.warm_up, seconds, options.trips, idle)
        async with self.signals.heeded(stop_signals) as stop:
            with progress as show:
                self.report = await self._measure(show, stop)

    async def _measure(
        self, show: Callable[[LoadReport], None], stop: trio.Event
    ) -> LoadReport:
        options = self.options
        plan = plan_of(options)
        every = options.report_every or (math.inf if options.json else DEFAULT)
        intervals = Intervals(every, options.json)

        def watch(report: LoadReport) -> None:
            self.report = self.last = report
            if every < math.inf:
                intervals.take(report)
            if options.plot is not None:
                self.timeline.take(report)
            show(report)

        if options.fleet is not None:
            report = await load_by_fleet(options, plan, watch, stop)
        elif options.processes is not None:
            report = await processes_of(options, plan, watch, stop).run()
        else:
            from techo._load.load import carry_out

            tls = client_context(options)
            report = await carry_out(
                plan,
                options.endpoint,
                tls=tls,
                server_name=None if tls is None else options.tls_server_name,
                options=socket_options(options, options.connections),
                watch=watch,
                stop=stop,
            )
            self.last = report
        intervals.finish(self.last or report)
        return report


@contextlib.contextmanager
def _progress(
    warm_up: float, seconds: float, trips: int | None, idle: float
) -> Iterator[Callable[[LoadReport], None]]:
    """Show a bar on a terminal; give the function that takes reports so far.

    The bar is of the trips where their number is given, else of the seconds with the warm-up,
    and with as many `idle` ones before and after as a probe has.
    """
    total = trips or warm_up + seconds + 2 * idle
    with open_bar(total) as draw:
        if draw is None:
            yield lambda _: None
            return
        started: float | None = None

        def show(report: LoadReport) -> None:
            nonlocal started
            started = started or time.monotonic()  # when the first report came
            elapsed = time.monotonic() - started
            over = report.received + report.lost
            description = so_far(report)
            if not over and elapsed < idle + warm_up:
                description = "probing, idle" if elapsed < idle else "warming up"
            elif report.probe is not None and report.probe.after.received:
                description = "probing, idle again"
            draw(over if trips else elapsed, total, description)

        yield show


COMMAND: Final = Command(
    "load",
    "load [OPTION]... [ENDPOINT]",
    _DESCRIPTION,
    _OPTIONS,
    load,
    variables="TECHO_ENDPOINT=8009 or TECHO_CONNECTIONS=50",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("load", "json"),
    notes=_NOTES,
)
