"""The picture of a mesh: a matrix of coloured fields for each figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from techo._mesh.report import Mesh

_FIELD: Final = 0.7
"""Inches of a field."""

_LEAST: Final = 3.0
"""Inches of a matrix, without its labels."""

_LETTER: Final = 0.09
"""Inches of a letter of a label."""

_LONGEST: Final = 32
"""Letters of a name; of a longer one, the end is left out."""

_LINE: Final = 0.2
"""Inches of a line above the matrices; ..."""

_LETTERS: Final = 12
"""... and letters on each of its inches."""

_MOST: Final = 20
"""Machines from which on fields have no room for a number."""

_USUAL, _NEARLY, _BAD = 0.12, 0.7, 0.88
"""Shades, in a map of colours from green by yellow to red, on which black can be read."""


def plot_mesh(mesh: Mesh, path: Path) -> None:
    """Draw the matrices of a mesh beside each other, and who stands out above them.

    Raises:
        OSError: the file could not be written.
    """
    from matplotlib.figure import Figure  # a second that few runs need

    from techo._mesh.report import FIGURES
    from techo._mesh.text import keys_of, numbered, remarks_of
    from techo._printable import printable

    keys = keys_of(mesh)
    names = [_shortened(printable(each.name)) for each in mesh.machines]
    if numbered(mesh):
        names = [f"{key}: {name}" for key, name in zip(keys, names, strict=True)]
    side = max(_LEAST, _FIELD * len(keys))
    width = side * len(FIGURES) + 1 + _LETTER * max(map(len, names))
    title = _wrapped([*remarks_of(mesh)] or ["no pair stands out"], int(width * _LETTERS))
    height = side + 1 + _LINE * (title.count("\n") + 1)
    figure = Figure(figsize=(width, height), layout="constrained")
    every = figure.subplots(1, len(FIGURES), sharey=True)
    for axes, name in zip(every, FIGURES, strict=True):
        _draw(axes, mesh, name)
        axes.set_xticks(range(len(keys)), keys, rotation=0 if numbered(mesh) else 45)
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylabel("from")
    figure.suptitle(title, fontsize="medium")
    figure.savefig(path, format=path.suffix.lower().removeprefix("."))


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _wrapped(lines: Sequence[str], width: int) -> str:
    return "\n".join(textwrap.fill(each, width) for each in lines)


def _draw(axes: Any, mesh: Mesh, name: str) -> None:
    from techo._mesh.outliers import usual_of
    from techo._mesh.report import FIGURES
    from techo._mesh.text import amount

    rows = mesh.matrix(name)
    usual = usual_of(mesh, name)
    shades = [[shade_of(name, each, usual) for each in row] for row in rows]
    axes.imshow(shades, cmap="RdYlGn_r", vmin=0, vmax=1)
    axes.set_title(f"{name} ({FIGURES[name]})")
    axes.set_xlabel("to")
    if len(rows) > _MOST:
        return
    for i, row in enumerate(rows):
        for j, each in enumerate(row):
            if i != j:
                axes.text(j, i, amount(name, each), ha="center", va="center", fontsize="small")


def shade_of(name: str, value: float | None, usual: float | None) -> float:
    """Return how red a field is; what is bad, and nothing else, is redder than nearly so."""
    from techo._mesh.outliers import is_bad, is_worst, limit_of

    if value is None or usual is None:
        return math.nan  # white
    if is_bad(name, value, usual) or is_worst(name, value):
        return _BAD
    share = max(0.0, value - usual) / (limit_of(name, usual) - usual)
    return _USUAL + share * (_NEARLY - _USUAL)
