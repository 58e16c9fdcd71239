"""Reports of runs that never ran, for what compares them: their figures are chosen."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import techo

MILLISECOND = 1_000_000


def run(
    milliseconds: float = 1.0, *, trips: int = 1000, lost: int = 0, **fields: Any
) -> techo.LoadReport:
    """Return the report of a run in which times rise evenly, and this is their median."""
    times = [milliseconds * (0.5 + (at + 0.5) / trips) for at in range(trips)]
    service = techo.Histogram.of(round(each * MILLISECOND) for each in times)
    plain: dict[str, Any] = {
        "endpoint": "tcp://127.0.0.1:8009",
        "address": None,
        "connections": 10,
        "size": 64,
        "pipeline": 1,
        "rate": None,
        "seconds": trips * milliseconds / 1000,
        "gave_up_after_seconds": None,
        "received": trips,
        "received_bytes": 64 * trips,
        "lost": lost,
        "in_flight": 0,
        "failures": {techo.FailureCause.CORRUPT: lost} if lost else {},
        "reasons": {},
        "reconnects": 0,
        "late": 0,
        "duplicate": 0,
        "stray": 0,
        "outages": 0,
        "outage_seconds": 0.0,
        "longest_outage": None,
        "unsent": 0,
        "service": service,
        "response": None,
        "send_lag": None,
        "client_cpu_seconds": 0.1,
        "client_cpu_percent": 10.0,
        "client_was_limit": False,
    }
    if fields.get("rate") is not None:
        plain |= {"response": service, "send_lag": service}
    return techo.LoadReport(**(plain | fields))


def noisy(
    count: int, *, noise: float, seed: int, milliseconds: float = 1.0, trips: int = 1000
) -> list[techo.LoadReport]:
    """Return runs whose times differ by so much from run to run, as a share."""
    chance = random.Random(seed)  # noqa: S311  -- the same again in every test
    scales = (math.exp(chance.gauss(0, noise)) for _ in range(count))
    return [run(milliseconds * each, trips=trips) for each in scales]


def write(path: Path, runs: Iterable[techo.LoadReport]) -> str:
    """Write runs into a file, one on each line; return its name."""
    path.write_text("".join(json.dumps(each.to_json()) + "\n" for each in runs))
    return str(path)


def write_sides(folder: Path) -> None:
    """Write two sides that do not differ much, under all names that examples have.

    A pattern is a name here: where no shell reads an example, nobody else expands it.
    """
    for seed, names in enumerate(
        (
            ("before.json", "before-*.json", "old.json", "old*.json"),
            ("after.json", "after-*.json", "new.json", "new*.json"),
        )
    ):
        runs = noisy(5, noise=0.05, seed=seed)
        for name in names:
            write(folder / name, runs)
