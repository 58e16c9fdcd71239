"""Reprs and texts that people meet in a failing assertion: short, and without what is zero."""

from __future__ import annotations

import pytest

import techo
from loads import check
from techo import testing
from techo.testing import Reset


async def test_a_ping_says_how_far_it_is(autojump_clock: object) -> None:
    """Its target, its state, and how many probes there were."""
    async with testing.open_memory_server(reply=techo.raw) as server:
        ping = techo.ping(server.connect, count=2)
        assert repr(ping) == "<Ping of a function that connects, not begun>"
        async with ping:
            assert "running" in repr(ping)
            async for _ in ping:
                pass
        assert repr(ping) == "<Ping of a function that connects, over, 2 probes>"
        statistics = repr(ping.statistics())
    assert statistics.startswith("PingStatistics(endpoint='a function that connects', sent=2, ")
    assert "lost" not in statistics
    assert "None" not in statistics
    assert len(statistics) < 300


@pytest.mark.parametrize("faults", [(), (Reset(),)])
async def test_a_report_is_short_and_its_text_is_the_table(
    faults: tuple[testing.Fault, ...], autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero counters are left out of its repr, and nothing of its text, which has no colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    async with testing.open_memory_server(reply=techo.raw, faults=faults) as server:
        report = check(await techo.load(server.connect, connections=2, trips=4, timeout=1.0))
    shown, text = repr(report), str(report)
    assert shown.startswith("LoadReport(endpoint='a function that connects', connections=2, ")
    assert len(shown) < 500
    assert "=0," not in shown
    assert "address" not in shown  # which no function tells
    assert ("failures={reset: " in shown) == bool(faults)
    assert ("lost" in shown) == bool(faults)
    assert text.startswith("a function that connects: 2 connections x 64 bytes\n")
    assert ("service time, ms" in text) != bool(faults)
    assert "\x1b" not in text
    assert not text.endswith("\n")


def test_a_histogram_is_not_its_buckets() -> None:
    """But how many durations it holds, and how long they are."""
    assert repr(techo.Histogram()) == "<Histogram of nothing>"
    assert repr(techo.Histogram.of([5, 7, 1000])) == "<Histogram of 3, 5 to 1000 ns>"
