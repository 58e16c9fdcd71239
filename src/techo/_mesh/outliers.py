"""Outliers: which machines, rows, columns and single pairs of a mesh are unlike the others.

A pair is bad in a figure if it is far above what is usual. What is bad is then explained by as
few words as will do: by a machine if everything from and to it is bad, or else by a column, a
row, both ways between two, and only what is left by a pair alone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from techo._mesh.report import FIGURES, Mesh

Cell: TypeAlias = tuple[str, str]
"""From where, and to where."""

_FACTOR: Final = 3.0
"""Times the usual time that a pair must exceed, ..."""

_LEAST: Final = {"p50": 200_000.0, "p99": 1_000_000.0}
"""... and nanoseconds by which: below that, a busy processor is as likely as a network."""

_POINTS: Final = 1.0
"""Percentage points of loss above the usual."""

_ALL: Final = 100.0
"""Per cent."""

_QUARTER: Final = 4
"""What is usual is the lower quartile: one bad machine of three makes two thirds of all bad."""

_FEW: Final = 2
"""Pairs that a row or a column must have to be one."""


class OutlierKind(enum.StrEnum):
    """What is unlike the others."""

    MACHINE = "machine"
    """Everything from and to one machine."""
    TARGET = "target"
    """Everything to one machine."""
    SOURCE = "source"
    """Everything from one machine."""
    BOTH_WAYS = "both_ways"
    """Two machines, in both directions."""
    PAIR = "pair"
    """One machine to another, in this direction."""


@attrs.frozen(kw_only=True)
class Outlier:
    """Something in a mesh that is unlike the rest."""

    figure: str
    """One of p50, p99 and loss."""
    kind: OutlierKind
    """Whether that is a machine, all to it or from it, or a pair."""
    machines: Sequence[str]
    """Which one; of pairs the source, and the target."""
    usual: float
    """What the figure is elsewhere."""
    least: float
    """What it is here, at the least; infinite if that was lost."""

    def __str__(self) -> str:
        what = "loses more" if self.figure == "loss" else "is slow"
        first, last = self.machines[0], self.machines[-1]
        name = first.partition(" (")[0]  # without its address, which is there already
        return {
            OutlierKind.MACHINE: f"everything from and to {first} {what}: {name}",
            OutlierKind.TARGET: f"everything to {first} {what}: {name}",
            OutlierKind.SOURCE: f"everything from {first} {what}: {name}",
            OutlierKind.BOTH_WAYS: f"only between {first} and {last}",
            OutlierKind.PAIR: f"only {first} to {last}",
        }[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        unit = "percent" if self.figure == "loss" else "ns"
        return {
            "figure": self.figure,
            "kind": str(self.kind),
            "machines": [*self.machines],
            f"usual_{unit}": self.usual,
            f"least_{unit}": None if math.isinf(self.least) else self.least,
        }


def outliers_of(mesh: Mesh) -> list[Outlier]:
    """Return what is unlike the rest, in any figure; machines that died are left out."""
    return [found for figure in FIGURES for found in _outliers_in(mesh, figure)]


def is_bad(figure: str, value: float, usual: float) -> bool:
    """Return whether a value is far above the usual."""
    return value > limit_of(figure, usual)


def limit_of(figure: str, usual: float) -> float:
    """Return what a figure must exceed to be bad; infinity if all are lost."""
    if figure == "loss":
        return usual + _POINTS
    return max(_FACTOR * usual, usual + _LEAST[figure])


def is_worst(figure: str, value: float) -> bool:
    """Return whether nothing can be worse: all that such a figure is of was lost."""
    return value == (_ALL if figure == "loss" else math.inf)


def usual_of(mesh: Mesh, figure: str) -> float | None:
    """Return what a figure is where nothing is wrong; None if there is none."""
    return _quartile(_cells(mesh, figure))


def _cells(mesh: Mesh, figure: str) -> dict[Cell, float]:
    found = {(each.source, each.target): each.figure(figure) for each in mesh.measured}
    return {cell: value for cell, value in found.items() if value is not None}


def _quartile(cells: Mapping[Cell, float]) -> float | None:
    return sorted(cells.values())[(len(cells) - 1) // _QUARTER] if cells else None


def _outliers_in(mesh: Mesh, figure: str) -> Iterator[Outlier]:
    cells = _cells(mesh, figure)
    usual = _quartile(cells)
    if usual is None:
        return
    bad = {cell for cell, value in cells.items() if is_bad(figure, value, usual)}
    names = [each.name for each in mesh.machines]
    for kind, machines, explained in _explained(names, cells, bad):
        least = min(cells[cell] for cell in explained)
        yield Outlier(figure=figure, kind=kind, machines=machines, usual=usual, least=least)


def _explained(
    names: Sequence[str], cells: Mapping[Cell, float], bad: set[Cell]
) -> Iterator[tuple[OutlierKind, Sequence[str], set[Cell]]]:
    """Yield what the bad cells have in common, and which they are; each is explained once."""
    rows = {name: {cell for cell in cells if cell[0] == name} for name in names}
    columns = {name: {cell for cell in cells if cell[1] == name} for name in names}
    left = set(bad)
    for name in names:
        row, column = rows[name], columns[name]
        if min(len(row), len(column)) >= _FEW and row | column <= bad:
            yield OutlierKind.MACHINE, (name,), row | column
            left -= row | column
    whole = left.copy()
    for kind, lines in ((OutlierKind.TARGET, columns), (OutlierKind.SOURCE, rows)):
        for name in names:
            # Of a line, others may have explained a part, but not so much that one is left.
            line = lines[name]
            if line <= bad and len(line & whole) >= _FEW:
                yield kind, (name,), line
                left -= line
    for cell in sorted(left, key=lambda each: (names.index(each[0]), names.index(each[1]))):
        back = cell[::-1]
        if back not in left:
            yield OutlierKind.PAIR, cell, {cell}
        elif names.index(cell[0]) < names.index(cell[1]):
            yield OutlierKind.BOTH_WAYS, cell, {cell, back}
