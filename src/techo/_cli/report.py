"""What load and merge do with a report: print or keep it, draw it, and judge it."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from techo._cli.errors import fail, fell_short, never_reached
from techo._cli.objects import OBJECT_OPTIONS, cannot_write, check_writable, taking_objects
from techo._cli.options import Option, option
from techo._cli.output import writing
from techo._cli.plot import check_can_plot, plot
from techo._cli.readers import Form
from techo._cli.rules import any_fired, rules_about
from techo._figures import figures_of_load
from techo._load.interval import Interval
from techo._load.report import LoadReport
from techo._printable import quoted
from techo._probing.failure_cause import FailureCause
from techo._probing.text import counted, number_of
from techo._rules import LOAD, PROBED, Rule

_PICTURES: Final = {".svg", ".png"}
"""What can be drawn."""


def _read_picture(text: str) -> str:
    if Path(text).suffix.lower() not in _PICTURES:
        raise ValueError(f"{quoted(text)} is neither .svg nor .png")
    return check_writable(text)


def picture_option(what: str) -> Option:
    """Return the option that draws `what` into a file."""
    return option(
        "--plot",
        Form("FILE", _read_picture),
        f"draw {what}, as .svg or .png; needs the extra plot",
        shown="no",
    )


REPORT_OPTIONS: Final = (
    *OBJECT_OPTIONS,
    picture_option("the percentiles there, and of a load how it went over time"),
    rules_about(LOAD),
)
"""What load and merge have in common: to keep a report, to draw it, and to judge it."""


def check_deliverable(options: argparse.Namespace, *, scheduled: bool, probed: bool) -> None:
    """Check before a measurement what could not be done with its report.

    Raises:
        ValueError: something is not installed, or a rule is about what is not measured.
    """
    check_can_draw(options)
    for rule in options.fail_if:
        if not scheduled and rule.name.startswith(("response.", "send_lag")):
            raise ValueError(
                f"rule {quoted(rule.text)}: without --rate there is no {rule.name}, only "
                "service time"
            )
        if not probed and rule.name in PROBED:
            raise ValueError(
                f"rule {quoted(rule.text)}: without --probe there is no {rule.name}"
            )


def check_can_draw(options: argparse.Namespace) -> None:
    """Check before anything else whether a picture that is wanted can be drawn.

    Raises:
        ValueError: what draws it is not installed, or its file has another use.
    """
    if options.plot is None:
        return
    check_can_plot()
    output = options.output
    if output and os.path.realpath(output) == os.path.realpath(options.plot):
        raise ValueError(
            f"--plot and --output both name {quoted(options.plot)}; give two files"
        )


def deliver(
    report: LoadReport, options: argparse.Namespace, intervals: Sequence[Interval] = ()
) -> int:
    """Do with a report what the options say; return the exit code for it.

    The `intervals` are drawn beside it, if there are some.
    """
    # Files first: standard output may be gone, and must not cost what was to be kept.
    drawn = draw(options.plot, lambda path: plot(report, intervals, path))
    with taking_objects(options.output, printed=options.json) as objects:
        objects.put(report.to_json())
    if not options.json:
        from techo._load.text import show

        with writing():
            show(report, sys.stdout, colours=True)
            sys.stdout.flush()
    return _verdict(report, options.fail_if) or (0 if drawn and objects.complete else 1)


def draw(name: str | None, plot: Callable[[Path], None]) -> bool:
    """Have a picture drawn if one is wanted, and return whether nothing was in the way."""
    if name is None:
        return True
    try:
        with warnings.catch_warnings():
            # Of letters that the font lacks, say: a figure is drawn, and what can be is in it.
            warnings.simplefilter("ignore", UserWarning)
            plot(Path(name))
    except OSError as error:
        cannot_write(name, error)
        return False
    return True


def _verdict(report: LoadReport, rules: Sequence[Rule]) -> int:
    """Report what was bad, if anything was, and return the exit code."""
    if short := report.failures.get(FailureCause.LOCAL):
        reason = report.reasons.get(FailureCause.LOCAL, "")
        return fell_short(report.endpoint, short, reason)
    if report.never_reached:
        return never_reached(report.endpoint, report.failures, report.reasons)
    fired = any_fired(rules, figures_of_load(report))
    died = [each for each in report.parts if each.died]
    for each in died:
        fail(f"{each.name} died: {each.died}; {each.unsent:,} trips of its share are unsent")
    if died:
        return 1
    if report.failed:
        return fail(f"{number_of(report.failed, 'failure')} ({counted(report.failures)})")
    if not report.received:
        return fail("nothing came back" if report.lost else "nothing was counted")
    return int(fired)
