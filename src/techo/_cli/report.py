"""What load and merge do with a report: print or keep it, draw it, and judge it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from techo._cli.errors import fail, fell_short, never_reached
from techo._cli.objects import OBJECT_OPTIONS, cannot_write, check_writable, taking_objects
from techo._cli.options import option
from techo._cli.output import writing
from techo._cli.plot import check_can_plot, plot
from techo._cli.readers import Form
from techo._cli.rules import LOAD, Rule, any_fired, rules_about
from techo._load.report import PERCENTS, LoadReport
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, nanoseconds
from techo._probing.text import counted, number_of
from techo._validation import quoted

_PICTURES: Final = {".svg", ".png"}
"""What can be drawn."""


def _read_picture(text: str) -> str:
    if Path(text).suffix.lower() not in _PICTURES:
        raise ValueError(f"{quoted(text)} is neither .svg nor .png")
    return check_writable(text)


REPORT_OPTIONS: Final = (
    *OBJECT_OPTIONS,
    option(
        "--plot",
        Form("FILE", _read_picture),
        "draw the percentiles there, as .svg or .png; needs the extra plot",
        shown="no",
    ),
    rules_about(LOAD),
)
"""What load and merge have in common: to keep a report, to draw it, and to judge it."""


def check_deliverable(options: argparse.Namespace, *, scheduled: bool) -> None:
    """Check before a measurement what could not be done with its report.

    Raises:
        ValueError: something is not installed, or a rule is about what is not measured.
    """
    if options.plot is not None:
        check_can_plot()
        output = options.output
        if output and os.path.realpath(output) == os.path.realpath(options.plot):
            raise ValueError(
                f"--plot and --output both name {quoted(options.plot)}; give two files"
            )
    for rule in options.fail_if:
        if not scheduled and rule.name.startswith(("response.", "behind")):
            raise ValueError(
                f"rule {quoted(rule.text)}: without --rate there is no {rule.name}, only "
                "service time"
            )


def deliver(report: LoadReport, options: argparse.Namespace) -> int:
    """Do with a report what the options say; return the exit code for it."""
    # Files first: standard output may be gone, and must not cost what was to be kept.
    drawn = options.plot is None or _draw(report, options.plot)
    with taking_objects(options.output, printed=options.json) as objects:
        objects.put(report.to_json())
    if not options.json:
        from techo._load.text import show

        with writing():
            show(report, sys.stdout, colours=True)
            sys.stdout.flush()
    return _verdict(report, options.fail_if) or (0 if drawn and objects.complete else 1)


def _draw(report: LoadReport, name: str) -> bool:
    try:
        plot(report, Path(name))
    except OSError as error:
        cannot_write(name, error)
        return False
    return True


def _verdict(report: LoadReport, rules: Sequence[Rule]) -> int:
    """Report what was bad, if anything was, and return the exit code."""
    if short := report.errors.get(FailureCause.LOCAL):
        reason = report.reasons.get(FailureCause.LOCAL, "")
        return fell_short(report.endpoint, short, reason)
    if report.never_reached:
        return never_reached(report.endpoint, report.errors, report.reasons)
    fired = any_fired(rules, _figures(report))
    if report.failed:
        return fail(f"{number_of(report.failed, 'error')} ({counted(report.errors)})")
    if not report.round_trips:
        return fail("nothing came back" if report.lost else "nothing was counted")
    return int(fired)


def _figures(report: LoadReport) -> Mapping[str, float | None]:
    """Return the figures that rules are about: times in nanoseconds, the loss in per cent."""
    counts = (
        "round_trips",
        "bytes",
        "lost",
        "reconnects",
        "unsent",
        "late",
        "duplicate",
        "stray",
    )
    longest = report.longest_outage
    return {
        **{cause: report.errors.get(cause, 0) for cause in FailureCause},
        **{name: getattr(report, name) for name in counts},
        "errors": report.failed,
        "loss": report.loss,
        "rate": report.round_trips_per_second,
        "outage": 0 if longest is None else nanoseconds(longest.seconds),
        **_figures_of("", report.latency, report.lost),
        **_figures_of("service.", report.service, report.lost),
        **_figures_of("response.", report.response, report.lost),
        "behind": report.send_lag.max if report.send_lag and report.send_lag.count else None,
    }


def _figures_of(
    prefix: str, histogram: Histogram | None, lost: int
) -> Mapping[str, float | None]:
    figures = (histogram or Histogram()).figures(*PERCENTS, lost=lost)
    return {prefix + name.replace("_", "."): each for name, each in figures.items()}
