"""A mesh as text: a matrix for each figure, in colour on a terminal, and who stands out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO, Final

import attrs
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from techo._console import LEAST_WIDTH, columns_of, report_console
from techo._mesh.outliers import Outlier, OutlierKind, is_bad, is_worst, outliers_of, usual_of
from techo._mesh.report import FIGURES, Mesh
from techo._printable import printable
from techo._probing.text import milliseconds, number_of

_GAP: Final = 2
"""Spaces between columns."""

_CELL: Final = 7
"""The least width of a column: of 1,019.2 ms."""

_SHORT: Final = 12
"""Columns that a name may take above a column; where one is longer, all have numbers."""


def text_of(mesh: Mesh) -> str:
    """Return all of it, without colours."""
    file = io.StringIO()
    show(mesh, file, colours=False)
    return file.getvalue().rstrip("\n")


def show(mesh: Mesh, file: IO[str], *, colours: bool) -> None:
    """Print all of it; with colours if `file` has them.

    On a terminal, a matrix that is too wide comes in parts: some targets, then some more.
    """
    labels = _Labels.of(mesh)
    parts = labels.parts(columns_of(file))
    width = max(LEAST_WIDTH, *(labels.width(len(each)) for each in parts))
    console = report_console(file, colours=colours, width=width)
    console.print(_heading(mesh), *labels.legend, sep="\n", soft_wrap=True)
    if any(each.sent for each in mesh.pairs):
        for figure in FIGURES:
            for part in parts:
                _print(_table(mesh, figure, labels, part), console, file)
    if remarks := [*remarks_of(mesh)]:
        console.print()
        console.print(*remarks, sep="\n", soft_wrap=True)


def _print(table: Table, console: Console, file: IO[str]) -> None:
    with console.capture() as capture:
        console.print(table)
    file.write("\n")
    file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


@attrs.frozen
class _Labels:
    """What rows and columns are called: numbers if names are long, so that many have room."""

    rows: Sequence[str]
    columns: Sequence[str]
    legend: Sequence[str]
    """Which machine has which number, a line for each."""

    @classmethod
    def of(cls, mesh: Mesh) -> _Labels:
        names, keys = [printable(each.name) for each in mesh.machines], keys_of(mesh)
        columns = [f"to {key}" for key in keys]
        if not numbered(mesh):
            return cls([f"from {name}" for name in names], columns, [])
        legend = ["", *(f"{key}: {name}" for key, name in zip(keys, names, strict=True))]
        return cls([f"from {key}" for key in keys], columns, legend)

    def parts(self, width: float) -> list[range]:
        """Return which columns there is room for side by side."""
        size = len(self.columns)
        room = next((n for n in range(size, 1, -1) if self.width(n) <= width), 1)
        return [range(start, min(start + room, size)) for start in range(0, size, room)]

    def width(self, columns: int) -> int:
        """Return how many columns of a terminal so many of a matrix take."""
        return max(map(cell_len, self.rows)) + columns * (self.cell + _GAP)

    @property
    def cell(self) -> int:
        """How wide each column is."""
        return max(_CELL, *map(cell_len, self.columns))


def keys_of(mesh: Mesh) -> list[str]:
    """Return a word for each machine: its name without the address, or else its number."""
    if numbered(mesh):
        return [str(number) for number in range(1, len(mesh.machines) + 1)]
    return _without_addresses(mesh)


def numbered(mesh: Mesh) -> bool:
    """Return whether machines have numbers: a name is long, or two are the same."""
    names = _without_addresses(mesh)
    return len({*names}) < len(names) or any(cell_len(each) > _SHORT for each in names)


def _without_addresses(mesh: Mesh) -> list[str]:
    return [printable(each.name).partition(" (")[0] for each in mesh.machines]


def _heading(mesh: Mesh) -> str:
    probes = number_of(sum(each.sent for each in mesh.pairs), "probe")
    how = "in turns" if mesh.in_turns else "at once"
    machines, pairs = len(mesh.machines), len(mesh.pairs)
    return f"{number_of(machines, 'machine')}, {number_of(pairs, 'pair')} {how}, {probes}"


def _table(mesh: Mesh, figure: str, labels: _Labels, part: range) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column(f"{figure} {FIGURES[figure]}", no_wrap=True)
    for j in part:
        # Not `min_width`: in old releases of rich it includes the gap, which the last has not.
        gap = " " * (labels.cell - cell_len(labels.columns[j]))
        table.add_column(gap + labels.columns[j], justify="right", no_wrap=True)
    usual = usual_of(mesh, figure)
    for i, (label, row) in enumerate(zip(labels.rows, mesh.matrix(figure), strict=True)):
        table.add_row(label, *(_cell(figure, row[j], usual, own=i == j) for j in part))
    return table


def _cell(figure: str, value: float | None, usual: float | None, *, own: bool) -> Text:
    if own:
        return Text("")
    text = amount(figure, value)
    if value is None or usual is None:
        return Text(text, style="dim")
    bad = is_bad(figure, value, usual) or is_worst(figure, value)
    return Text(text, style="bold red" if bad else "green")


def amount(figure: str, value: float | None) -> str:
    """Return a figure as it is shown, without its unit."""
    if figure == "loss":
        return "-" if value is None else f"{value:.3g}"
    return milliseconds(value)


def remarks_of(mesh: Mesh) -> Iterator[str]:
    """Yield a line for each machine that died, and for what stands out."""
    for each in mesh.machines:
        if each.died is not None:
            yield f"{printable(each.name)} died: {printable(each.died)}"
    yield from (in_words(each) for each in outliers_of(mesh))


def in_words(outlier: Outlier) -> str:
    """Return an outlier as a line for people, with its figure and what is usual."""
    figure, unit = outlier.figure, FIGURES[outlier.figure]
    least = amount(figure, outlier.least)
    if not is_worst(figure, outlier.least):
        alone = outlier.kind is OutlierKind.PAIR
        least = f"{least} {unit}" if alone else f"{least} {unit} or more"
    elif figure == "loss":
        least = f"{least} {unit}"
    usual = amount(figure, outlier.usual)
    return f"{printable(str(outlier))} ({figure} {least}, usually {usual} {unit})"
