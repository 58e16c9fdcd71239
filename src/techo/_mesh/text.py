"""A mesh as text: a matrix for each figure, in colour on a terminal, and who stands out."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import IO

from rich.table import Table
from rich.text import Text

from techo._console import LEAST_WIDTH, report_console
from techo._mesh.outliers import Outlier, is_bad, outliers_of, usual_of
from techo._mesh.report import FIGURES, Mesh
from techo._printable import printable
from techo._probing.text import milliseconds, number_of


def text_of(mesh: Mesh) -> str:
    """Return all of it, without colours."""
    file = io.StringIO()
    show(mesh, file, colours=False)
    return file.getvalue().rstrip("\n")


def show(mesh: Mesh, file: IO[str], *, colours: bool) -> None:
    """Print all of it, in as many columns as it takes; with colours if `file` has them."""
    console = report_console(file, colours=colours, width=max(LEAST_WIDTH, _width_of(mesh)))
    console.print(_heading(mesh), soft_wrap=True)
    for figure in FIGURES:
        with console.capture() as capture:
            console.print(_table(mesh, figure))
        file.write("\n")
        file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    if remarks := [*remarks_of(mesh)]:
        console.print()
        console.print(*remarks, sep="\n", soft_wrap=True)


def _width_of(mesh: Mesh) -> int:
    """Return how many columns the widest matrix takes, so that none of it is broken."""
    names = [len(printable(each.name)) for each in mesh.machines]
    return max(names, default=0) + sum(max(each, 9) + 2 for each in names) + 12


def _heading(mesh: Mesh) -> str:
    probes = number_of(sum(each.sent for each in mesh.pairs), "probe")
    how = "in turns" if mesh.in_turns else "at once"
    machines, pairs = len(mesh.machines), len(mesh.pairs)
    return f"{number_of(machines, 'machine')}, {number_of(pairs, 'pair')} {how}, {probes}"


def _table(mesh: Mesh, figure: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    names = [printable(each.name) for each in mesh.machines]
    table.add_column(f"{figure} {FIGURES[figure]}")
    for name in names:
        table.add_column(f"to {name}", justify="right", no_wrap=True)
    usual = usual_of(mesh, figure)
    for i, (name, row) in enumerate(zip(names, mesh.matrix(figure), strict=True)):
        cells = [_cell(figure, each, usual, own=i == j) for j, each in enumerate(row)]
        table.add_row(f"from {name}", *cells)
    return table


def _cell(figure: str, value: float | None, usual: float | None, *, own: bool) -> Text:
    if own:
        return Text("")
    if value is None or usual is None:
        return Text(amount(figure, value), style="dim")
    return Text(
        amount(figure, value), style="bold red" if is_bad(figure, value, usual) else "green"
    )


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
    here = least if math.isinf(outlier.least) else f"{least} {unit}"
    usual = amount(figure, outlier.usual)
    return f"{printable(str(outlier))} ({figure} {here} or more, usually {usual} {unit})"
