"""The merge command: adds up reports of load, and delivers the sum."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from techo._cli.errors import refuse
from techo._cli.objects import STANDARD_OUTPUT
from techo._cli.options import Command, option
from techo._cli.readers import FILE
from techo._cli.report import REPORT_OPTIONS, check_deliverable, deliver
from techo._cli.rules import names_of
from techo._load.report import LoadReport
from techo._printable import quoted
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
        merged = LoadReport.merged([each for name in _names(options) for each in _read(name)])
        check_deliverable(options, scheduled=merged.rate is not None)
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
    seen = set[str]()
    for name in names:
        path = os.path.realpath(name)
        if path in seen:
            raise ValueError(f"{quoted(name)} is named twice, and would count twice")
        seen.add(path)
    return names


def _read(name: str) -> Iterator[LoadReport]:
    """Read the reports in a file, one on each line.

    Raises:
        ValueError: it cannot be read, or has none, or something else in it; the text names the
            file and the line.
    """
    try:
        if name != STANDARD_OUTPUT:
            text = Path(name).read_text("utf-8", "replace")
        else:  # which the parent process may have closed
            text = (
                "" if sys.stdin is None else sys.stdin.buffer.read().decode("utf-8", "replace")
            )
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ValueError(f"cannot read {quoted(name)}: {reason}") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{quoted(name)} has no report in it")
    for number, line in lines:
        try:
            found = json.loads(line)
            if isinstance(found, dict) and found.get("event") == "interval":
                continue  # all of it is in the summary, too
            yield LoadReport.from_json(found)
        except json.JSONDecodeError as error:
            what = f"no JSON ({error.msg}), and so no report of techo load --output"
            raise ValueError(f"{quoted(name)}, line {number}: {what}") from None
        except (ValueError, RecursionError) as error:  # what json and the report raise
            raise ValueError(f"{quoted(name)}, line {number}: {error}") from None


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
