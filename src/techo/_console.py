"""The console that reports are printed with: figures are never cut, whatever it is."""

from __future__ import annotations

import math
from typing import IO, Final, Literal

from rich.console import Console, ConsoleDimensions

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
    # Both, or a terminal that can draw nothing is taken to have 80 columns all the same.
    console.size = ConsoleDimensions(max(console.width, width), console.height)
    return console


def columns_of(file: IO[str]) -> float:
    """Return how many columns a terminal has; infinity if it is none."""
    return Console(file=file).width if file.isatty() else math.inf
