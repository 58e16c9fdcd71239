"""Loads by many machines at once, which a Dask scheduler knows: see `techo help fleet`."""

from __future__ import annotations

from techo._fields import with_texts
from techo._fleet.load import load
from techo._fleet.machines import FleetError
from techo._fleet.order import FleetTls

__all__ = ["FleetError", "FleetTls", "load"]

with_texts(FleetTls)
