"""The bar: how far a measurement is, drawn on a terminal while it runs."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, TypeAlias, cast

from techo._cli.output import Forgiving

if TYPE_CHECKING:
    from techo._load.report import LoadReport

Show: TypeAlias = Callable[[float, float, str], None]
"""Draws the bar: how much is completed, of how much, and what to say beside it."""


class _AtTheLeft(Forgiving):
    """Standard error that leaves the cursor at the left.

    There the terminal echoes Ctrl-C. Behind a bar as wide as the terminal it would begin a new
    line, and the bar would stay when only that line is taken away.
    """

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        super().write(text + "\r")
        return len(text)


@contextlib.contextmanager
def open_bar(total: float) -> Iterator[Show | None]:
    """Draw a bar for the length of a block, above which lines are printed.

    None is given where standard error is no terminal, or one that cannot draw.
    """
    # Not what rich's console says: FORCE_COLOR makes it take everything for a terminal.
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=cast("IO[str]", _AtTheLeft()), markup=False)
    if console.is_dumb_terminal:
        yield None
        return
    bar = BarColumn(complete_style="default", finished_style="default")  # red is for failures
    columns = (bar, TimeRemainingColumn(), TextColumn("{task.description}"))
    # Without a thread, whose turns would be part of what is measured.
    with Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # lines go above the bar
    ) as progress:
        task = progress.add_task("connecting", total=total)

        def show(completed: float, total: float, description: str) -> None:
            progress.update(
                task, completed=completed, total=total, description=description, refresh=True
            )

        progress.refresh()
        console.show_cursor()  # or whatever ends us at once would leave it hidden
        yield show


def so_far(report: LoadReport) -> str:
    """Return what a load has found out so far, in a few words."""
    from techo._probing.text import milliseconds, number_of

    p99 = report.percentile(99)
    known = p99 is not None and math.isfinite(p99)  # neither too few trips nor too many lost
    latency = [f"p99 {milliseconds(p99)} ms"] if known else []
    errors = number_of(report.failed, "error")
    return ", ".join([f"{report.trips_per_second:,.0f}/s", *latency, errors])
