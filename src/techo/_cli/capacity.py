"""The capacity command: finds the highest rate that holds, and reports each step on the way."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.bar import Show, open_bar, so_far
from techo._cli.errors import fail, fell_short, never_reached, refuse
from techo._cli.fleet import FLEET, check_fleet, fleet_of
from techo._cli.loading import (
    CONNECTIONS,
    MESSAGE_SIZE,
    PIPELINE,
    RECONNECT_EVERY,
    TwoSignals,
    reply_timeout,
)
from techo._cli.objects import OBJECT_OPTIONS, Objects, taking_objects
from techo._cli.options import CLIENT, Command, Group, Option, option
from techo._cli.output import print_lines
from techo._cli.packets import PACKETS, socket_options
from techo._cli.process import shortage
from techo._cli.readers import NUMBER, RATE, TIME, TIME_OR_NONE, Form, checked
from techo._cli.rules import names_of
from techo._cli.signals import held, stopping
from techo._cli.tls import client_context
from techo._printable import quoted
from techo._probing.failure_cause import FailureCause
from techo._probing.text import counted, number_of
from techo._quantities import read_share, write_share
from techo._rules import CONNECT_TIME, SLO, Rule
from techo._validation import number

if TYPE_CHECKING:
    import signal

    import trio

    from techo._capacity.capacity import Loader
    from techo._capacity.plan import SearchPlan
    from techo._capacity.report import Capacity
    from techo._capacity.search import Trial
    from techo._capacity.step import CapacityStep
    from techo._load.plan import LoadPlan
    from techo._load.report import LoadReport

_DESCRIPTION = """\
It loads a server at one rate after the other, and finds the highest at which all that must hold
does. Trips are due at the rate whatever comes back, and their times count from when they were
due: a server that halts is not forgiven. The rate is doubled until one fails; then the gap is
halved until it is small; then the winner is tried for three times as long. If that fails, the
search goes on below, with steps as long."""

_EXAMPLES: Final = (
    ("techo capacity --slo 'p99<5ms' echo.example", "TCP, on port 8009"),
    ("techo capacity --slo 'p99<50ms' --slo 'loss<0.1%' udp://echo.example", "two SLOs"),
    (
        "techo capacity --slo 'connect.p99<50ms' --reconnect-every 1 tls://echo.example",
        "handshakes a second",
    ),
)

_EXITS: Final = (
    ("0", "found: the rate held, also for longer"),
    ("1", "the lowest rate fails already"),
    ("2", "the client was the limit, nobody was there, wrong usage, or steps ran out"),
    ("130", "by SIGINT, after Ctrl-C"),
)

_ABOUT = names_of(SLO, "They are of the response time, and every SLO must hold.").replace(
    "--fail-if", "--slo"
)

_NOTES = f"""\
{_ABOUT}
Besides, no connection may be lost, no trip be unsent and no outage happen, unless an SLO is
about that: --slo 'reconnects<5'. What could not be sent counts as lost. A server must also keep
up: replies may not come later and later. Times of connecting take --reconnect-every.

A rate has failed if it did so in two steps: one pause of some machine is no lack of capacity.
A step ends early when nothing can hold any more. It is longer than --duration if a figure takes
more trips: p99 takes 100, p99.9 takes 1,000, and loss<0.1% takes 1,000.
If the first rate fails, it is halved, down to a 64th of it.

Ctrl-C ends it with what was found so far; a second one does not wait for trips in flight."""

_SHARE: Final = Form("SHARE", checked(read_share, number(above=0, most=1)), write=write_share)


def _read_slo(text: str) -> Rule:
    from techo._capacity.objectives import read_objective

    return read_objective(text)


_OPTIONS: Final[Sequence[Option | Group]] = [
    *CLIENT,
    PACKETS,
    option(
        "--slo",
        Form("RULE", _read_slo),
        "what must hold, at least one: a figure, one of < <= ==, and a limit, such as "
        "'p99<5ms'",
        repeatable=True,
        shown="none",
    ),
    option("--start", RATE, "the first rate", default=100.0, shown="100/s"),
    option(
        "--max-rate", RATE, "the highest rate that is tried", shown="whatever the client can do"
    ),
    option(
        "--precision",
        _SHARE,
        "how far the next rate that failed may be above the one that held",
        default=0.02,
    ),
    option("-d --duration", TIME, "how long a step is, at least", default=5.0),
    option("--max-steps", NUMBER, "after how many steps to give up", default=100),
    option(
        "--warm-up", TIME_OR_NONE, "how long to load in each step before it counts", default=0.5
    ),
    CONNECTIONS,
    MESSAGE_SIZE,
    PIPELINE,
    RECONNECT_EVERY,
    reply_timeout("What comes later is lost"),
    FLEET,
    *OBJECT_OPTIONS,
]


def capacity(options: argparse.Namespace) -> int:
    """Search until the end and return the exit code: minus the signal's number for SIGINT."""
    import trio

    try:
        _check(options)
    except ValueError as error:
        return refuse(str(error))
    here = options.fleet is None
    if here and (short := shortage(options.connections)) is not None:
        return refuse(f"{short} or lower --connections")
    stop = stopping()
    try:
        with held(stop), taking_objects(options.output, printed=options.json) as objects:
            command = _Search(options, objects)
            trio.run(command.run, stop)
    except ValueError as error:
        return refuse(str(error))
    if command.found is None:
        return command.signals.exit_code or 2
    if command.found.outcome == "unfinished" and command.signals.stopped_by:
        return command.signals.exit_code or 2
    return _verdict(command.found, options) or int(not objects.complete)


def _check(options: argparse.Namespace) -> None:
    """Check that options make sense together.

    Raises:
        ValueError: they do not; the text has the remedy.
    """
    if not options.slo:
        raise ValueError("capacity needs what must hold: --slo 'p99<5ms', for example")
    if options.max_rate is not None and options.start > options.max_rate:
        start, highest = f"{options.start:.10g}", f"{options.max_rate:.10g}"
        raise ValueError(f"--start {start} is above --max-rate {highest}; lower it")
    connecting = [rule.text for rule in options.slo if rule.dimension is CONNECT_TIME]
    if connecting and options.reconnect_every is None:
        raise ValueError(
            f"{quoted(connecting[0])}: connections stay open; have them replaced, with "
            "--reconnect-every 1 for example"
        )
    check_fleet(options)


@attrs.define(eq=False)
class _Search:
    """One search, and the signals that end it."""

    options: argparse.Namespace
    objects: Objects
    signals: TwoSignals = attrs.field(factory=TwoSignals)
    found: Capacity | None = None
    """None if a second signal ended it."""
    steps: int = 0
    """How many were reported."""
    draw: Show | None = None
    """Draws how far a step is; None where there is no terminal."""

    async def run(self, stop_signals: Sequence[signal.Signals]) -> None:
        async with self.signals.heeded(stop_signals) as stop:
            with open_bar(1) as self.draw:
                self.found = await self._find(stop)
        if self.found is not None:
            self.objects.put(self.found.to_json())
            if not self.options.json:
                from techo._capacity.text import summary_of

                print_lines(*summary_of(self.found))

    async def _find(self, stop: trio.Event) -> Capacity:
        from techo._load.load import carry_out

        options = self.options
        if options.fleet is not None:
            async with fleet_of(options) as fleet:
                fleet.check_rate(max(options.start, options.max_rate or 0.0))
                return await self._search(fleet.load, stop, fleet.highest_rate, elsewhere=True)
        tls = client_context(options)
        loader = functools.partial(
            carry_out,
            target=options.endpoint,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
            options=socket_options(options, options.connections),
        )
        return await self._search(loader, stop)

    async def _search(
        self,
        loader: Loader,
        stop: trio.Event,
        highest_rate: float | None = None,
        *,
        elsewhere: bool = False,
    ) -> Capacity:
        """Search with loads that `loader` makes, up to a rate unless the options have one."""
        from techo._capacity.capacity import find
        from techo._capacity.plan import SearchPlan
        from techo._load.plan import LoadPlan

        options = self.options
        plan = SearchPlan(
            slo=[rule.text for rule in options.slo],
            start=options.start,
            max_rate=highest_rate if options.max_rate is None else options.max_rate,
            precision=options.precision,
            seconds=options.duration,
            max_steps=options.max_steps,
        )
        load_plan = LoadPlan(
            connections=options.connections,
            size=options.size,
            pipeline=options.pipeline,
            warm_up=options.warm_up,
            timeout=options.timeout,
            reconnect_every=options.reconnect_every,
        )
        return await find(
            plan,
            load_plan,
            loader,
            str(options.endpoint),
            watch=self._show,
            progress=self._progress(plan, load_plan),
            stop=stop,
            elsewhere=elsewhere,
        )

    def _progress(
        self, plan: SearchPlan, load_plan: LoadPlan
    ) -> Callable[[Trial, LoadReport], None] | None:
        """Return what shows how far a step is, from reports so far."""
        from techo._capacity.text import per_second

        draw = self.draw
        if draw is None:
            return None
        latest, began = -1, 0.0

        def show(trial: Trial, report: LoadReport) -> None:
            nonlocal latest, began
            if self.steps != latest:
                latest, began = self.steps, time.monotonic()
            trips = plan.trips(trial, load_plan.reconnect_every)
            total = load_plan.warm_up + trips / trial.rate
            elapsed = min(time.monotonic() - began, total)
            what = "confirming" if trial.confirming else "trying"
            draw(elapsed, total, f"{what} {per_second(trial.rate)}: {so_far(report)}")

        return show

    def _show(self, step: CapacityStep) -> None:
        self.objects.put(step.to_json())
        if not self.options.json:
            from techo._capacity.text import HEADING, row_of

            heading = [] if self.steps else [HEADING]
            print_lines(*heading, row_of(step))
        self.steps += 1


def _verdict(found: Capacity, options: argparse.Namespace) -> int:
    """Report why no capacity was found, if so, and return the exit code."""
    from techo._capacity.report import CapacityOutcome
    from techo._capacity.text import per_second

    outcome, last = found.outcome, found.steps[-1]
    if outcome is CapacityOutcome.FOUND:
        return 0
    report = last.report
    if outcome is CapacityOutcome.NEVER_REACHED and len(found.steps) > 1:
        gone = f"{found.endpoint} is gone ({counted(report.failures)})"
        return refuse(f"{gone}; the steps before may be why")
    if outcome is CapacityOutcome.NEVER_REACHED:
        return never_reached(found.endpoint, report.failures, report.reasons)
    if short := report.failures.get(FailureCause.LOCAL):
        reason = report.reasons.get(FailureCause.LOCAL, "")
        return fell_short(found.endpoint, short, reason)
    if outcome is CapacityOutcome.CLIENT_LIMIT:
        tight = last if last.broke_client else found.failed[-1]
        what = f"the client was the limit, and not {found.endpoint}: {tight.client}"
        return refuse(f"{what}; {tight.remedy}")
    if outcome is CapacityOutcome.LOWEST_FAILED:
        lowest = f"the lowest rate that was tried, {per_second(last.rate)}, fails already"
        return fail(f"{lowest}: {_why(last)}")
    were = "was" if options.max_steps == 1 else "were"
    return refuse(
        f"{number_of(options.max_steps, 'step')} {were} too few; raise --max-steps, or "
        f"--precision {write_share(options.precision)}"
    )


def _why(step: CapacityStep) -> str:
    """Return what a step has missed, with a remedy if it may be the number of connections."""
    reasons = "; ".join(step.missed)
    if "reconnects==0" not in reasons:
        return reasons
    connections = step.report.connections
    return f"{reasons}; if the server allows fewer than {connections:,} at once, lower -c"


COMMAND: Final = Command(
    "capacity",
    "capacity --slo RULE [OPTION]... [ENDPOINT]",
    _DESCRIPTION,
    _OPTIONS,
    capacity,
    variables="TECHO_SLO='p99<5ms' or TECHO_START=1000",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("capacity", "load", "json"),
    notes=_NOTES,
)
