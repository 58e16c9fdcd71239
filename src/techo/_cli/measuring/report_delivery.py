"""What load and merge do with a report: print or keep it, draw it, and judge it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from techo._cli.measuring.plot import check_can_plot, plot
from techo._cli.measuring.report_options import STANDARD_OUTPUT
from techo._cli.measuring.report_output import print_report
from techo._cli.measuring.rules import Rule
from techo._cli.measuring.verdict import any_fired, complain_of, counted, never_reached
from techo._load.report import PERCENTS, LoadReport
from techo._probing.causes import FailureCause
from techo._probing.histogram import Histogram


def check_deliverable(options: argparse.Namespace, *, scheduled: bool) -> None:
    """Find out before a measurement what could not be done with its report.

    Raises:
        ValueError: something is not installed, or a rule is about what is not measured.
    """
    if options.plot is not None:
        check_can_plot()
        if options.json and os.path.realpath(options.json) == os.path.realpath(options.plot):
            raise ValueError(f"--plot and --json both name {options.plot!r}; give two files")
    for rule in options.fail_if:
        if not scheduled and rule.name.startswith(("response.", "behind")):
            raise ValueError(
                f"rule {rule.text!r}: without --rate there is no {rule.name}, only service time"
            )


def deliver(report: LoadReport, options: argparse.Namespace) -> int:
    """Do with a report what the options say; give the exit code that it deserves."""
    text = json.dumps(report.to_json())
    written = True
    # Files first: standard output may be gone, and that must not cost what was to be kept.
    if options.json not in {None, STANDARD_OUTPUT}:
        written &= _write(options.json, lambda path: path.write_text(text + "\n"))
    if options.plot is not None:
        written &= _write(options.plot, lambda path: plot(report, path))
    if options.json == STANDARD_OUTPUT:
        print(text, flush=True)
    else:
        print_report(report)
    return _verdict(report, options.fail_if) or (0 if written else 1)


def _write(name: str, write: Callable[[Path], object]) -> bool:
    try:
        write(Path(name))
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        sys.stderr.write(f"techo: cannot write {name!r}: {reason}\n")
        return False
    return True


def _verdict(report: LoadReport, rules: Sequence[Rule]) -> int:
    """Say what was bad, if something was, and give the exit code."""
    if report.never_reached:
        return never_reached(report.endpoint, report.errors)
    fired = any_fired(rules, _figures(report))
    if report.failed:
        errors = "error" if report.failed == 1 else "errors"
        return complain_of(f"{report.failed:,} {errors} ({counted(report.errors)})")
    if not report.round_trips:
        return complain_of("nothing came back" if report.lost else "nothing was counted")
    return int(fired)


def _figures(report: LoadReport) -> Mapping[str, float | None]:
    """Give what rules are about: times in nanoseconds, the loss in per cent, counts."""
    counts = ("round_trips", "bytes", "lost", "reconnects", "unsent", "late", "duplicate")
    return {
        **{cause: report.errors.get(cause, 0) for cause in FailureCause},
        **{name: getattr(report, name) for name in counts},
        "errors": report.failed,
        "loss": report.loss,
        "rate": report.round_trips_per_second,
        **_times("", report.latency),
        **_times("service.", report.service),
        **_times("response.", report.response),
        "behind": report.behind.max if report.behind and report.behind.count else None,
    }


def _times(prefix: str, histogram: Histogram | None) -> Mapping[str, float | None]:
    figures = (histogram or Histogram()).figures(*PERCENTS)
    return {prefix + name.replace("_", "."): each for name, each in figures.items()}
