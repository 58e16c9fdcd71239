"""Files of reports: what techo load has written with --output, one or several runs in each."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from techo._cli.objects import STANDARD_OUTPUT
from techo._load.report import LoadReport
from techo._printable import quoted


def check_different(names: Iterable[str]) -> None:
    """Check that no file would count twice.

    Raises:
        ValueError: one is named twice, maybe by two names.
    """
    seen = set[str]()
    for name in names:
        path = os.path.realpath(name)
        if path in seen:
            raise ValueError(f"{quoted(name)} is named twice, and would count twice")
        seen.add(path)


def read_reports(name: str) -> Iterator[LoadReport]:
    """Read the reports in a file, one on each line.

    Raises:
        ValueError: it cannot be read, or has none, or something else in it; the text names the
            file and the line.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_text_of(name).splitlines(), 1)
        if line.strip()
    ]
    if not lines:
        raise ValueError(f"{quoted(name)} has no report in it")
    for number, line in lines:
        try:
            found = json.loads(line)
            if isinstance(found, dict) and found.get("event") == "interval":
                continue  # all of it is in the summary, too
            yield LoadReport.from_json(found)
        except json.JSONDecodeError as error:
            what = f"no JSON ({error.msg}); a report of techo load --output is one line"
            raise ValueError(f"{quoted(name)}, line {number}: {what}") from None
        except (ValueError, RecursionError) as error:  # what json and the report raise
            raise ValueError(f"{quoted(name)}, line {number}: {error}") from None


def _text_of(name: str) -> str:
    try:
        if name != STANDARD_OUTPUT:
            return Path(name).read_text("utf-8", "replace")
        if sys.stdin is None:  # the parent process may have closed it
            return ""
        return sys.stdin.buffer.read().decode("utf-8", "replace")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ValueError(f"cannot read {quoted(name)}: {reason}") from None
