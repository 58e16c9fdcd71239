"""The progress of a load: a bar with what was found so far, while it runs on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from techo._load.report import LoadReport

_MILLISECOND: Final = 1_000_000


@contextlib.contextmanager
def shown(
    warm_up: float, seconds: float, trips: int | None
) -> Iterator[Callable[[LoadReport], None]]:
    """Show how far a load is; give what to tell reports to.

    That is of its trips if it is so many of them, else of its seconds, warm-up included.
    """
    console = Console(file=sys.stderr, markup=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _: None
        return
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    # Without a thread, whose turns would be part of what is measured.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("connecting", total=trips or warm_up + seconds)
        started: float | None = None

        def show(report: LoadReport) -> None:
            nonlocal started
            started = started or time.monotonic()  # when the first report came
            elapsed = time.monotonic() - started
            over = report.round_trips + report.lost
            description = "warming up" if elapsed < warm_up and not over else _so_far(report)
            completed = over if trips else elapsed
            progress.update(task, completed=completed, description=description, refresh=True)

        progress.refresh()
        yield show


def _so_far(report: LoadReport) -> str:
    p99 = report.latency.percentile(99)
    shown_p99 = "-" if p99 is None else f"{p99 / _MILLISECOND:,.3f}"
    return (
        f"{report.round_trips_per_second:,.0f}/s, p99 {shown_p99} ms, {report.failed:,} errors"
    )
