"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Show = Callable[[str], None]


@contextlib.contextmanager
def shown(turns: int) -> Iterator[tuple[Show, Callable[[], None]]]:
    """Show how far it is, of `turns`; gives what to call for each row and after each turn."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield (lambda text: print(text, file=sys.stderr, flush=True)), (lambda: None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("turns"),
        TimeElapsedColumn(),
    )
    # Without a thread: it would run while servers are being measured.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=turns)

        def show(text: str) -> None:
            progress.update(task, description=text, refresh=True)

        yield show, lambda: progress.update(task, advance=1, refresh=True)
