"""The merge command: adds up reports of load, and delivers the sum."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from techo._cli.complaints import refuse
from techo._cli.measuring.report_delivery import check_deliverable, deliver
from techo._cli.measuring.report_options import STANDARD_OUTPUT
from techo._load.report import LoadReport


def merge(options: argparse.Namespace) -> int:
    """Read all reports, add them up, and give the exit code that the sum deserves."""
    options.json = STANDARD_OUTPUT if options.json else None
    try:
        merged = LoadReport.merged([each for name in _names(options) for each in _read(name)])
        check_deliverable(options, scheduled=merged.rate is not None)
    except ValueError as error:
        return refuse(str(error))
    return deliver(merged, options)


def _names(options: argparse.Namespace) -> list[str]:
    """Give the files.

    Raises:
        ValueError: there is none, or one would count twice.
    """
    names: list[str] = options.files
    if not names:
        raise ValueError("merge needs the reports: FILE... of techo load --json FILE")
    seen = set[str]()
    for name in names:
        path = os.path.realpath(name)
        if path in seen:
            raise ValueError(f"{name!r} is named twice, and would count twice")
        seen.add(path)
    return names


def _read(name: str) -> Iterator[LoadReport]:
    """Read the reports in a file, one on each line.

    Raises:
        ValueError: it cannot be read, has none, or something else; names the file and line.
    """
    try:
        if name != STANDARD_OUTPUT:
            text = Path(name).read_text("utf-8", "replace")
        else:  # which whoever started us may have closed
            text = "" if sys.stdin is None else sys.stdin.read()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ValueError(f"cannot read {name!r}: {reason}") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError(f"{name!r} has no report in it")
    for number, line in lines:
        try:
            yield LoadReport.from_json(json.loads(line))
        except json.JSONDecodeError as error:
            what = f"no JSON ({error.msg}), and so no report of techo load --json"
            raise ValueError(f"{name!r}, line {number}: {what}") from None
        except (ValueError, RecursionError) as error:  # what json and the report raise
            raise ValueError(f"{name!r}, line {number}: {error}") from None
