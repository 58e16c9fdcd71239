"""The console that reports are printed with: figures are never cut, whatever it is."""

from __future__ import annotations

from typing import IO, Final, Literal

from rich.console import Console

LEAST_WIDTH: Final = 100
"""Columns that are taken to be there: a narrow terminal wraps lines, and cuts no figure."""


def report_console(file: IO[str], *, colours: bool, width: int = LEAST_WIDTH) -> Console:
    """Return what prints in as many columns as there are, or `width` if these are fewer.

    It has colours if they are wanted and `file` has them; what is printed has no markup.
    """
    system: Literal["auto"] | None = "auto" if colours else None
    console = Console(
        file=file, color_system=system, highlight=False, markup=False, emoji=False
    )
    console.width = max(console.width, width)
    return console
