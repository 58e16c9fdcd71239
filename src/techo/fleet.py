"""Loads and meshes by many machines, which a Dask scheduler knows: see `techo help fleet`."""

from __future__ import annotations

from techo._fields import with_texts
from techo._fleet.load import load
from techo._fleet.machines import FleetError
from techo._fleet.mesh import mesh
from techo._fleet.order import FleetTls
from techo._mesh.outliers import Outlier, OutlierKind, outliers_of
from techo._mesh.report import Mesh, MeshMachine, MeshPair

__all__ = [
    "FleetError",
    "FleetTls",
    "Mesh",
    "MeshMachine",
    "MeshPair",
    "Outlier",
    "OutlierKind",
    "load",
    "mesh",
    "outliers_of",
]


def __dir__() -> list[str]:
    return __all__


for _each in (FleetTls, Mesh, MeshMachine, MeshPair, Outlier):
    with_texts(_each)
