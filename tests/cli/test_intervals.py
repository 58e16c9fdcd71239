"""Intervals of a load: a line or an object for each, which add up to the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capacities import report
from helpers import call, serving
from techo._cli.intervals import Intervals
from techo._probing.histogram import Histogram


def test_lines_of_intervals_come_before_the_summary_and_fit_60_columns(port: str) -> None:
    """There is a heading, a line for each, and one for the rest."""
    arguments = ["-r", "200", "-d", "1.5", "--report-every", "0.4"]
    code, out, _ = call("load", *arguments, port)
    lines = out.decode().splitlines()
    assert code == 0
    assert lines[0].split() == ["s", "trips/s", "Mbit/s", "p50", "ms", "p99", "ms", "errors"]
    end = next(number for number, line in enumerate(lines) if line.startswith("tcp://"))
    rows = [line.split() for line in lines[1:end]]
    assert len(rows) >= 2  # of four, on a machine that is not busy
    assert {row[-1] for row in rows} == {"0"}
    spans = [row[0].split("-") for row in rows]
    assert (spans[0][0], spans[-1][1]) == ("0.0", "1.5")
    assert [end for _, end in spans[:-1]] == [begin for begin, _ in spans[1:]]
    assert max(map(len, lines)) <= 60


def test_objects_of_intervals_add_up_to_the_summary(tmp_path: Path, port: str) -> None:
    """Nothing is in two of them and nothing in none; merge takes the summary only."""
    arguments = ["--json", "-d", "2", "--report-every", "300ms", port]
    code, out, _ = call("load", *arguments)
    assert code == 0
    *intervals, summary = map(json.loads, out.splitlines())
    assert len(intervals) >= 2  # of seven, on a machine that is not busy
    assert {each["event"] for each in intervals} == {"interval"}
    for name in ("received", "received_bytes", "lost"):
        assert sum(each[name] for each in intervals) == summary[name]
    assert sum(each["seconds"] for each in intervals) == pytest.approx(summary["seconds"])
    assert sum(each["latency_ns"]["count"] for each in intervals) == summary["received"]
    path = tmp_path / "report.json"
    path.write_bytes(out)
    code, merged, _ = call("merge", "--json", str(path))
    assert (code, json.loads(merged)["received"]) == (0, summary["received"])


@pytest.mark.parametrize("every", [None, 1], ids=["kept", "replaced"])
def test_connections_opened_have_a_column_if_they_are_replaced(
    capsys: pytest.CaptureFixture[str], every: int | None
) -> None:
    """Each interval has its own; 80 columns are enough for it."""
    intervals = Intervals(0.5, json=False)
    for half in (1, 2, 3):
        connect = Histogram.of([1] * 500 * half**2)
        intervals.take(
            report([1] * half, seconds=0.5 * half, connect=connect, reconnect_every=every)
        )
    heading, *rows = capsys.readouterr().out.splitlines()
    ends = [line[58:].strip() for line in (heading, *rows)]
    assert ends == ([""] * 4 if every is None else ["connects/s", "1,000", "3,000", "5,000"])
    assert max(map(len, rows)) < 80


@pytest.mark.parametrize("arguments", [["--report-every", "off"], ["--json"]])
def test_without_intervals_there_is_the_summary_only(arguments: list[str], port: str) -> None:
    """They can be switched off; --json has none unless they are asked for."""
    _, out, _ = call("load", *arguments, "-r", "100", "-d", "1.3", port)
    assert b"trips/s  " not in out
    assert b"interval" not in out


def test_who_gives_up_reports_no_interval_that_nobody_saw() -> None:
    """The last one ends when it gave up, and not when it would have been over."""
    with serving("-q", "--fault", "never-read") as process:
        arguments = ["--json", "-d", "60", "-W", "1s", "--report-every", "300ms"]
        code, out, _ = call("load", *arguments, str(process.port))
    *intervals, summary = map(json.loads, out.splitlines())
    assert (code, summary["received"], summary["seconds"]) == (1, 0, 60)
    gave_up = summary["gave_up_after_seconds"]
    assert 1 <= gave_up < 30
    last = intervals[-1]
    assert last["begin_seconds"] + last["seconds"] < 30


def test_too_short_an_interval_is_refused() -> None:
    """The line says from which time on it can be."""
    code, _, err = call("load", "--report-every", "100ms", "8009")
    assert (code, "from 0.2 on, or off" in err) == (2, True)


def test_a_histogram_is_cut_where_a_copy_was_made() -> None:
    """What came since is counted, and nothing of what came before."""
    histogram = Histogram.of([10, 2_000_000, 3_000_000])
    earlier = histogram.copy()
    assert not histogram.since(earlier).count
    for each in (5_000, 2_000_000):
        histogram.record(each)
    found = histogram.since(earlier)
    assert (found.count, found.sum) == (2, 2_005_000)
    assert found.min == pytest.approx(5_000, rel=0.008)
    assert found.max == pytest.approx(2_000_000, rel=0.008)
