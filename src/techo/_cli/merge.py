"""The merge command: adds up reports of load, and delivers the sum."""

from __future__ import annotations

import argparse
from typing import Final

from techo._cli.errors import refuse
from techo._cli.options import Command, option
from techo._cli.readers import FILE
from techo._cli.report import REPORT_OPTIONS, check_deliverable, deliver
from techo._cli.report_files import check_different, read_reports
from techo._cli.rules import names_of
from techo._load.report import LoadReport
from techo._rules import LOAD

_DESCRIPTION = """\
The reports are those that several runs of techo load have written with --output, such as those
of several machines that have loaded one server at the same time. Histograms are merged, so that
percentiles are those of all trips; nothing is averaged but the mean."""

_EXAMPLES: Final = (
    ("techo merge a.json b.json", "two reports, as one"),
    ("cat *.json | techo merge --json -", "all of a folder, for machines"),
)

_EXITS: Final = (
    ("0", "nothing failed, and no rule fired"),
    ("1", "something failed, or a rule fired, or nothing came back"),
    ("2", "wrong usage, or never reached, or a machine fell short (cause local)"),
)

_NOTES = f"""\
{names_of(LOAD)}
  Where there was a rate, min to max are of the response time, otherwise of the service time.
  send_lag is the most by which a trip was sent too late.

A file may have several reports, one on each line; - is standard input. With --json or
--output, the sum is what techo load would print or write, and can be merged again."""


_OPTIONS: Final = [
    option(
        "files",
        FILE,
        "reports to add up, at least one",
        repeatable=True,
        shown="",
        named="",
    ),
    *REPORT_OPTIONS,
]


def merge(options: argparse.Namespace) -> int:
    """Read all reports, add them up, and return the exit code for the sum."""
    try:
        merged = LoadReport.merged(
            [each for name in _names(options) for each in read_reports(name)]
        )
        check_deliverable(
            options, scheduled=merged.rate is not None, probed=merged.probe is not None
        )
    except ValueError as error:
        return refuse(str(error))
    return deliver(merged, options)


def _names(options: argparse.Namespace) -> list[str]:
    """Return the files.

    Raises:
        ValueError: there is none, or one would count twice.
    """
    names: list[str] = options.files
    if not names:
        raise ValueError("merge needs the reports: FILE... of techo load --output FILE")
    check_different(names)
    return names


COMMAND: Final = Command(
    "merge",
    "merge [OPTION]... FILE...",
    _DESCRIPTION,
    _OPTIONS,
    merge,
    variables="TECHO_PLOT=sum.svg or TECHO_FAIL_IF='p99>5ms'",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("load", "json"),
    notes=_NOTES,
)
