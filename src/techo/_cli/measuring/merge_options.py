"""The options of merge, and what its help says."""

from __future__ import annotations

import argparse
from typing import Final

from techo._cli.arguments import Command
from techo._cli.measuring.report_options import add_report_options

_DESCRIPTION = """\
Add up the reports that several runs of techo load have written with --json, such as those of
several machines that have loaded one server at the same time. Histograms are merged, so that
percentiles are those of all trips; nothing is averaged but the mean."""

_MORE = """\
A file may have several reports, one on each line; - is standard input. Rules, exit status and
output are those of techo load, but for --json, which prints to standard output."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="reports to add up")
    parser.add_argument("--json", action="store_true", help="print an object instead of text")
    add_report_options(parser)


MERGE: Final = Command("[OPTION]... FILE...", _DESCRIPTION, _MORE, _add_arguments)
