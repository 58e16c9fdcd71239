"""What finds a capacity: `finding.py NAME ADDRESS PID COST SLO NEAR SECONDS`.

The server takes COST ms for each reply, one at a time: so theory says what there is to find.
What is found has to be within NEAR per cent of that, each single time.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

import trio

import techo

WARM_UP: Final = 0.5
"""Seconds before a step counts, at the most."""


def find(endpoint: str, cost: float, slo: str, near: float, seconds: float) -> None:
    """Search once; print how far what was found is from what theory says."""
    begin = time.monotonic()
    found = trio.run(search, endpoint, cost, slo, seconds)
    if found.outcome is not techo.CapacityOutcome.FOUND or found.rate is None:
        sys.exit(f"no capacity was found ({found.outcome}):\n{found}")
    off = 100 * abs(found.rate * cost - 1)
    if off > near:
        sys.exit(f"{found.rate:g}/s are {off:.1f} % off what theory says:\n{found}")
    figures = {
        "off_percent": off,
        "found_per_second": found.rate,
        "steps": len(found.steps),
        "search_seconds": time.monotonic() - begin,
    }
    print(json.dumps(figures))


async def search(endpoint: str, cost: float, slo: str, seconds: float) -> techo.Capacity:
    """Search from half of what there is on."""
    return await techo.capacity(
        endpoint,
        slo,
        start=0.5 / cost,
        seconds=seconds,
        warm_up=min(seconds, WARM_UP),
    )


if __name__ == "__main__":
    address, slo = sys.argv[2], sys.argv[5]
    cost, near, seconds = (float(sys.argv[index]) for index in (4, 6, 7))
    find(f"127.0.0.1:{address.removeprefix('tcp:')}", cost / 1000, slo, near, seconds)
