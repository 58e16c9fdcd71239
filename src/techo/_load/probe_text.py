"""What the probe of a load has found, as text for people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from rich.table import Table

from techo._load.probe_report import SIZE, ProbeReport
from techo._probing.text import counted, milliseconds, number_of
from techo._probing.trip import Clock

_NAMES: Final = {"idle": "idle", "loaded": "under load", "after": "after it"}
"""The phases, as people call them."""

_PERCENTS: Final = (50, 90, 99)

_ALIKE: Final = 1.1
"""Times as slow that is no difference worth a figure."""


def probe_lines(probe: ProbeReport) -> Iterator[str]:
    """Yield what has come of it in words."""
    if (growth := _growth(probe)) is not None:
        yield growth
    if (loaded := probe.round_trips_per_minute) is not None:
        idle = probe.idle.round_trips_per_minute
        compared = "" if idle is None else f", idle {idle:,.0f}"
        if not loaded:
            compared += "; more than 5 % were lost"
        yield f"responsiveness: {loaded:,.0f} round trips a minute{compared}"
    elif probe.after.received:  # or it was ended before its time
        yield "responsiveness takes 20 probes under load: load for longer"
    for name, shown in _NAMES.items():
        phase = getattr(probe, name)
        if phase.failures:
            yield f"lost probes, {shown}: {counted(phase.failures)}"
    if probe.missed:
        yield f"{number_of(probe.missed, 'probe')} not sent: this program was busy"
    if probe.clocks.get(Clock.USER, 0) > probe.clocks.get(Clock.KERNEL, 0):
        yield "no kernel stamps: this program's own delay is in these times"


def _growth(probe: ProbeReport) -> str | None:
    growth, slowdown = probe.growth, probe.slowdown
    if growth is None or slowdown is None:
        return None
    if growth == math.inf:
        return "more than half of the probes were lost under load"
    shown = milliseconds(abs(growth))
    if slowdown > _ALIKE:
        return f"{shown} ms more under load: {_times(slowdown)} times as slow"
    if slowdown < 1 / _ALIKE:
        return f"{shown} ms less under load: {_times(1 / slowdown)} times as fast"
    return f"as fast under load as idle, to within {shown} ms"


def _times(factor: float) -> str:
    """Return a factor in two digits, or whole."""
    return f"{factor:.2g}" if factor < 100 else f"{factor:,.0f}"  # noqa: PLR2004  -- digits


def probe_table(probe: ProbeReport) -> Table:
    """Return how long probes took in each phase."""
    title = f"latency of {SIZE}-byte probes, {probe.rate:,.10g} a second"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.title, table.title_justify, table.title_style = title, "left", "bold"
    table.add_column("ms")
    for name in ("n", "lost", *(f"p{percent}" for percent in _PERCENTS), "max"):
        table.add_column(name, justify="right")
    for name, shown in _NAMES.items():
        phase = getattr(probe, name)
        times = [*map(phase.percentile, _PERCENTS)]
        longest = phase.latency.max if phase.received else None
        table.add_row(
            shown,
            f"{phase.received + phase.lost:,}",
            f"{phase.lost:,}",
            *map(milliseconds, [*times, math.inf if phase.lost else longest]),
        )
    return table
