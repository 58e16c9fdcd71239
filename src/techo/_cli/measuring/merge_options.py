"""The options of merge, and what its help says."""

from __future__ import annotations

import argparse
from typing import Final

from techo._cli.arguments import Command
from techo._cli.measuring.report_options import add_report_options
from techo._cli.measuring.rules import LOAD as NAMES
from techo._cli.measuring.rules import names_of

_DESCRIPTION = """\
Add up the reports that several runs of techo load have written with --json, such as those of
several machines that have loaded one server at the same time. Histograms are merged, so that
percentiles are those of all trips; nothing is averaged but the mean."""

_MORE = f"""\
{names_of(NAMES)}
  Where there was a rate, min to max are of the response time, otherwise of the service time;
  behind is the most by which a trip was sent too late.

A file may have several reports, one on each line; - is standard input. With --json, the sum
is printed as techo load --json prints a report, and can be merged again.

Exit status: 0 no error and no rule fired, 1 an error or a rule fired or nothing came back,
2 wrong usage or the server was never reached."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="reports to add up")
    parser.add_argument("--json", action="store_true", help="print an object instead of text")
    add_report_options(parser)


MERGE: Final = Command("[OPTION]... FILE...", _DESCRIPTION, _MORE, _add_arguments)
