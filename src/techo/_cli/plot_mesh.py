"""The picture of a mesh: a matrix of coloured fields for each figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from techo._mesh.report import Mesh

_FIELD: Final = 0.7
"""Inches of a field."""

_LEAST: Final = 3.5
"""Inches of a matrix, without its labels."""

_MOST: Final = 20
"""Machines from which on fields have no room for a number."""


def plot_mesh(mesh: Mesh, path: Path) -> None:
    """Draw the matrices of a mesh beside each other, and who stands out above them.

    Raises:
        OSError: the file could not be written.
    """
    from matplotlib.figure import Figure  # a second that few runs need

    from techo._mesh.report import FIGURES
    from techo._mesh.text import remarks_of

    side = max(_LEAST, _FIELD * len(mesh.machines)) + 1
    figure = Figure(figsize=(side * len(FIGURES), side + 1), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(FIGURES)), FIGURES, strict=True):
        _draw(axes, mesh, name)
    figure.suptitle("\n".join(remarks_of(mesh)) or "no pair stands out", fontsize="medium")
    figure.savefig(path, format=path.suffix.lower().removeprefix("."))


def _draw(axes: Any, mesh: Mesh, name: str) -> None:
    from techo._mesh.report import FIGURES
    from techo._mesh.text import amount
    from techo._printable import printable

    rows = mesh.matrix(name)
    known = [each for row in rows for each in row if each is not None and math.isfinite(each)]
    most = max(known, default=1.0) or 1.0
    # What was lost is the worst there is; what is not known stays white.
    shades = [[math.nan if each is None else min(each, most) for each in row] for row in rows]
    axes.imshow(shades, cmap="RdYlGn_r", vmin=min(known, default=0.0), vmax=most)
    names = [printable(each.name) for each in mesh.machines]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title(f"{name} ({FIGURES[name]})")
    axes.set_xlabel("to")
    axes.set_ylabel("from")
    if len(names) > _MOST:
        return
    for i, row in enumerate(rows):
        for j, each in enumerate(row):
            if i != j:
                axes.text(j, i, amount(name, each), ha="center", va="center", fontsize="small")
