"""What load and merge do with a report: print or keep it, draw it, and judge it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from techo._cli.errors import fail, fell_short, never_reached
from techo._cli.options import option
from techo._cli.output import print_lines, writing
from techo._cli.plot import check_can_plot, plot
from techo._cli.readers import Form
from techo._cli.rules import LOAD, Rule, any_fired, rules_about
from techo._load.report import PERCENTS, LoadReport
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram, nanoseconds
from techo._probing.text import counted, number_of
from techo._validation import quoted
from techo.endpoint import Endpoint

STANDARD_OUTPUT: Final = "-"
"""Stands for it where a file could be named."""

_PICTURES: Final = {".svg", ".png"}
"""What can be drawn."""


def _read_report_file(text: str) -> str:
    """Read the name of a file to write a report to, or what stands for standard output.

    Raises:
        ValueError: it could not be written, or is more likely meant as the endpoint.
    """
    if text == STANDARD_OUTPUT:
        return text
    try:
        Endpoint.parse(text)
    except ValueError:
        return _check_writable(text)
    raise ValueError(
        f"{quoted(text)} is an endpoint; write ENDPOINT --json, or --json=./{text} for a file"
    )


def _read_picture(text: str) -> str:
    if Path(text).suffix.lower() not in _PICTURES:
        raise ValueError(f"{quoted(text)} is neither .svg nor .png")
    return _check_writable(text)


def _check_writable(text: str) -> str:
    """Check before a measurement, without changing what is there, what would lose it."""
    path = Path(text)
    if not text:
        raise ValueError("'' is not the name of a file")
    if path.is_dir():
        raise ValueError(f"cannot write {quoted(text)}: it is a folder")
    if not path.parent.is_dir():
        raise ValueError(
            f"cannot write {quoted(text)}: there is no folder {quoted(str(path.parent))}"
        )
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"cannot write {quoted(text)}: permission denied")
    return text


REPORT_FILE: Final = Form("FILE", _read_report_file)

REPORT_OPTIONS: Final = (
    option(
        "--plot",
        Form("FILE", _read_picture),
        "draw the percentiles there, as .svg or .png; needs the extra plot",
        shown="no",
    ),
    rules_about(LOAD),
)
"""What load and merge have in common: to draw a report, and to judge it."""


def check_deliverable(options: argparse.Namespace, *, scheduled: bool) -> None:
    """Check before a measurement what could not be done with its report.

    Raises:
        ValueError: something is not installed, or a rule is about what is not measured.
    """
    if options.plot is not None:
        check_can_plot()
        if options.json and os.path.realpath(options.json) == os.path.realpath(options.plot):
            raise ValueError(
                f"--plot and --json both name {quoted(options.plot)}; give two files"
            )
    for rule in options.fail_if:
        if not scheduled and rule.name.startswith(("response.", "behind")):
            raise ValueError(
                f"rule {quoted(rule.text)}: without --rate there is no {rule.name}, only "
                "service time"
            )


def deliver(report: LoadReport, options: argparse.Namespace) -> int:
    """Do with a report what the options say; return the exit code for it."""
    text = json.dumps(report.to_json())
    written = True
    # Files first: standard output may be gone, and must not cost what was to be kept.
    if options.json not in {None, STANDARD_OUTPUT}:
        written &= _write(options.json, lambda path: path.write_text(text + "\n"))
    if options.plot is not None:
        written &= _write(options.plot, lambda path: plot(report, path))
    if options.json == STANDARD_OUTPUT:
        print_lines(text)
    else:
        from techo._load.text import show

        with writing():
            show(report, sys.stdout, colours=True)
            sys.stdout.flush()
    return _verdict(report, options.fail_if) or (0 if written else 1)


def _write(name: str, write: Callable[[Path], object]) -> bool:
    try:
        write(Path(name))
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        fail(f"cannot write {quoted(name)}: {reason}")
        return False
    return True


def _verdict(report: LoadReport, rules: Sequence[Rule]) -> int:
    """Report what was bad, if anything was, and return the exit code."""
    if short := report.errors.get(FailureCause.LOCAL):
        reason = report.reasons.get(FailureCause.LOCAL, "")
        return fell_short(report.endpoint, short, reason)
    if report.never_reached:
        return never_reached(report.endpoint, report.errors)
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
