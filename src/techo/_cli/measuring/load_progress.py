"""The progress of a load: a bar with what was found so far, while it runs on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from techo._measuring.load_report import LoadReport

_MILLISECOND: Final = 1_000_000


@contextlib.contextmanager
def shown(seconds: float | None, trips: int | None) -> Iterator[Callable[[LoadReport], None]]:
    """Show how far a load is, of all its seconds or its trips; give what to tell reports to."""
    console = Console(file=sys.stderr, markup=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    # Without a thread, whose turns would be part of what is measured.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("connecting", total=trips if seconds is None else seconds)
        started = time.monotonic()

        def show(report: LoadReport) -> None:
            done = report.round_trips + report.lost
            completed = done if seconds is None else time.monotonic() - started
            progress.update(
                task, completed=completed, description=_so_far(report), refresh=True
            )

        progress.refresh()
        yield show


def _so_far(report: LoadReport) -> str:
    p99 = report.latency.percentile(99)
    shown_p99 = "-" if p99 is None else f"{p99 / _MILLISECOND:,.3f}"
    return (
        f"{report.round_trips_per_second:,.0f}/s, p99 {shown_p99} ms, {report.failed:,} errors"
    )
