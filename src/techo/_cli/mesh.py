"""The mesh command: machines of a fleet probe each other, and who stands out is named."""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from techo._cli.bar import Show, open_bar
from techo._cli.errors import fail, refuse
from techo._cli.fleet import MESHED, check_fleet, mesh_by_fleet
from techo._cli.loading import TwoSignals
from techo._cli.objects import OBJECT_OPTIONS, taking_objects
from techo._cli.options import Command, Group, Option, option, switch
from techo._cli.output import writing
from techo._cli.plot_mesh import plot_mesh
from techo._cli.readers import NUMBER, SIZE, TIME
from techo._cli.report import check_can_draw, draw, picture_option
from techo._cli.rules import names_of, rules_about
from techo._cli.signals import held, stopping
from techo._printable import printable
from techo._probing.failure_cause import FailureCause
from techo._probing.text import counted, number_of
from techo._rules import PING

if TYPE_CHECKING:
    import signal

    from techo._mesh.report import Mesh, MeshPair

_DESCRIPTION = """\
Every machine of a fleet serves on its own address, lets in the machines of the fleet alone, and
probes all the others. There is a matrix of p50, of p99 and of loss: from each machine, to each.
Below it is who stands out: one machine, everything to it or from it, or a single pair."""

_EXAMPLES: Final = (
    ("techo mesh --fleet tls://scheduler.example", "all workers, at once"),
    ("techo mesh --fleet tls://scheduler.example --in-turns", "so that none disturbs another"),
    (
        "techo mesh --fleet tls://scheduler.example --fail-if 'p99>5ms'",
        "exit status 1 if one pair is slower",
    ),
)

_EXITS: Final = (
    ("0", "every pair had replies, and no rule fired"),
    ("1", "a machine died, a pair had no reply, or a rule fired"),
    ("2", "wrong usage, no fleet, no machine reached another, or one fell short (cause local)"),
    ("130", "by SIGINT, after Ctrl-C, where it would have been 0"),
)

_NOTES = f"""\
{names_of(PING, "They are about each pair. A rule also fires if there are too few samples.")}

A pair stands out if its time is three times what is usual, and 0.2 ms more (of p99, 1 ms). So
it does if its loss is 1 percentage point more. What is usual is the lower quartile of all.

All ports must be open between the machines. Ctrl-C ends it with what there is; a second one
does not wait."""

_OPTIONS: Final[Sequence[Option | Group]] = [
    MESHED,
    switch("--in-turns", "each machine probes one other at a time, not all at once"),
    option("-n --count", NUMBER, "how many probes of each pair", default=100),
    option("-i --interval", TIME, "between two probes of a pair", default=0.1),
    option(
        "-W --timeout",
        TIME,
        "how long to wait for a reply, or for a connection",
        default=1.0,
    ),
    option("-s --size", SIZE, "of each probe", default=64),
    *OBJECT_OPTIONS,
    picture_option("the matrices there"),
    rules_about(PING),
]


def mesh(options: argparse.Namespace) -> int:
    """Probe until the end and return the exit code: minus the signal's number for SIGINT."""
    import trio

    if options.fleet is None:
        return refuse("mesh needs machines: --fleet SCHEDULER; see techo help fleet")
    stop = stopping()
    command = _Mesh(options)
    try:
        check_fleet(options)
        check_can_draw(options)
        with held(stop):
            trio.run(command.run, stop)
    except ValueError as error:
        return refuse(str(error))
    if command.found is None:
        return command.signals.exit_code or 2
    return _deliver(command.found, options) or command.signals.exit_code


@attrs.define(eq=False)
class _Mesh:
    """One run, and the signals that end it."""

    options: argparse.Namespace
    signals: TwoSignals = attrs.field(factory=TwoSignals)
    found: Mesh | None = None
    """None if a second signal ended it."""

    async def run(self, stop_signals: Sequence[signal.Signals]) -> None:
        async with self.signals.heeded(stop_signals) as stop:
            with open_bar(1) as draw:
                watch = None if draw is None else functools.partial(self._show, draw)
                self.found = await mesh_by_fleet(self.options, watch, stop)

    def _show(self, draw: Show, found: Mesh) -> None:
        received = sum(each.received for each in found.pairs)
        lost = sum(each.lost for each in found.pairs)
        if received or lost:
            total = self.options.count * len(found.pairs)
            draw(received + lost, total, f"{received:,} received, {lost:,} lost")


def _deliver(found: Mesh, options: argparse.Namespace) -> int:
    # Files first: standard output may be gone, and must not cost what was to be kept.
    drawn = draw(options.plot, lambda path: plot_mesh(found, path))
    with taking_objects(options.output, printed=options.json) as objects:
        objects.put(found.to_json())
    if not options.json:
        from techo._mesh.text import show

        with writing():
            show(found, sys.stdout, colours=True)
            sys.stdout.flush()
    return _verdict(found, options) or (0 if drawn and objects.complete else 1)


def _verdict(found: Mesh, options: argparse.Namespace) -> int:
    """Report what was bad, if anything was, and return the exit code."""
    causes = sum((Counter(each.failures) for each in found.pairs), Counter[FailureCause]())
    if short := causes[FailureCause.LOCAL]:
        names = {each.source for each in found.pairs if FailureCause.LOCAL in each.failures}
        return refuse(
            f"{number_of(short, 'failure')} of machines' own say nothing about the network: "
            f"look at {', '.join(map(printable, sorted(names)))}"
        )
    bad = [
        fail(f"{printable(each.name)} died: {printable(each.died)}")
        for each in found.machines
        if each.died is not None
    ]
    if causes and not any(each.received for each in found.pairs):
        return refuse(
            f"no machine has reached another ({counted(causes)}); let all ports through "
            "between them"
        )
    bad += [
        fail(f"{printable(pair.source)} to {printable(pair.target)}: {sentence}")
        for pair in found.measured
        for sentence in _complaints(pair, options)
    ]
    return 1 if bad else 0


def _complaints(pair: MeshPair, options: argparse.Namespace) -> Iterator[str]:
    """Yield what was bad about one pair."""
    if not pair.received:
        yield f"none of {number_of(pair.sent, 'probe')} came back ({counted(pair.failures)})"
    yield from filter(None, (rule.judge(pair.figures) for rule in options.fail_if))


COMMAND: Final = Command(
    "mesh",
    "mesh --fleet SCHEDULER [OPTION]...",
    _DESCRIPTION,
    _OPTIONS,
    mesh,
    variables="TECHO_FLEET=tcp://127.0.0.1:8786 or TECHO_COUNT=20",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("mesh", "fleet", "json"),
    notes=_NOTES,
)
