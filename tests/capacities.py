"""What the tests of capacity share: reports of loads, steps and results, made by hand."""

from __future__ import annotations

from typing import Any

import techo

MS = 1_000_000


def report(times: list[int] | None = None, **fields: Any) -> techo.LoadReport:
    """A report of a load at a rate: a hundred trips of a millisecond, unless said otherwise."""
    histogram = techo.Histogram.of([MS] * 100 if times is None else times)
    values: dict[str, Any] = {
        "endpoint": "tcp://127.0.0.1:8009",
        "address": None,
        "connections": 10,
        "size": 64,
        "pipeline": 1,
        "rate": 100.0,
        "seconds": 1.0,
        "gave_up_after_seconds": None,
        "received": histogram.count,
        "received_bytes": 64 * histogram.count,
        **dict.fromkeys(("lost", "in_flight", "reconnects", "late", "duplicate", "stray"), 0),
        **dict.fromkeys(("outages", "outage_seconds", "unsent", "client_cpu_seconds"), 0),
        "failures": {},
        "reasons": {},
        "longest_outage": None,
        "service": histogram,
        "response": histogram,
        "send_lag": techo.Histogram.of([0] * histogram.count),
        "client_cpu_percent": 10.0,
        "client_was_limit": False,
    }
    return techo.LoadReport(**values | fields)


def step(rate: float, verdict: techo.StepVerdict, **fields: Any) -> techo.CapacityStep:
    """A step of a second at a rate, with this verdict."""
    values: dict[str, Any] = {
        "rate": rate,
        "seconds": 1.0,
        "confirming": False,
        "verdict": verdict,
        "missed": () if verdict is techo.StepVerdict.HELD else ("p99<5ms (was 9.000 ms)",),
        "client": None,
        "remedy": None,
        "report": report(),
        "client_lag": techo.Histogram(),
    }
    return techo.CapacityStep(**values | fields)


def found(
    outcome: techo.CapacityOutcome,
    rate: float | None,
    failed_rate: float | None,
    *steps: techo.CapacityStep,
) -> techo.Capacity:
    """What a search has found."""
    return techo.Capacity(
        endpoint="tcp://127.0.0.1:8009",
        slo=("p99<5ms",),
        precision=0.02,
        outcome=outcome,
        rate=rate,
        confirmed=any(each.confirming and each.held for each in steps),
        failed_rate=failed_rate,
        steps=steps,
    )
