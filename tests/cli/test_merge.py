"""techo merge: the reports of several machines become one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import techo
from helpers import call, serving


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write two reports about one server."""
    folder = tmp_path_factory.mktemp("reports")
    paths = folder / "a.json", folder / "b.json"
    with serving("--reply", "raw") as process:
        for path, trips in zip(paths, ("150", "300"), strict=True):
            target = str(process.port)
            assert (
                call("load", "-n", trips, "-r", "2000", target, "--output", str(path))[0] == 0
            )
    return paths


def test_the_sum_is_that_of_the_histograms(reports: tuple[Path, Path]) -> None:
    """Counts add up, and percentiles are those of all trips, not an average."""
    code, out, err = call("merge", "--json", *map(str, reports))
    each = [techo.LoadReport.from_json(json.loads(path.read_text())) for path in reports]
    merged = techo.LoadReport.merged(each)
    assert (code, err) == (0, "")
    assert json.loads(out) == merged.to_json()
    assert (merged.received, merged.rate, merged.connections) == (450, 4000, 20)
    total = techo.Histogram()
    for report in each:
        total.add(report.service)
    assert json.loads(out)["service_ns"]["p99"] == total.percentile(99)


def test_people_get_the_text_of_a_load(reports: tuple[Path, Path], tmp_path: Path) -> None:
    """It prints the same text as load, and draws a picture if asked."""
    code, out, _ = call("merge", *map(str, reports), "--plot", str(tmp_path / "a.svg"))
    assert code == 0
    assert b": 20 connections x 64 bytes\n4,000 trips/s wanted\n450 round trips in" in out
    assert b"response time, n = 450" in (tmp_path / "a.svg").read_bytes()


def test_the_sum_can_be_kept_and_merged_again(
    reports: tuple[Path, Path], tmp_path: Path
) -> None:
    """A file has what --json prints."""
    path = tmp_path / "sum.json"
    code, out, _ = call("merge", *map(str, reports), "--output", str(path))
    assert (code, out.count(b"450 round trips")) == (0, 1)
    _, once, _ = call("merge", "--json", *map(str, reports))
    _, twice, _ = call("merge", "--json", str(path))
    assert path.read_bytes() == once == twice


def test_standard_input_and_several_in_a_file(reports: tuple[Path, Path]) -> None:
    """A file has one report in each line; empty lines do not matter."""
    text = b"\n\n".join(path.read_bytes() for path in reports)
    code, out, _ = call("merge", "--json", "-", str(reports[0]), stdin=text)
    assert code == 0
    assert json.loads(out)["received"] == 600


@pytest.mark.parametrize(
    ("rule", "code"), [("received<450", 0), ("received<451", 1), ("response.p99>0ns", 1)]
)
def test_rules_are_about_the_sum(rule: str, code: int, reports: tuple[Path, Path]) -> None:
    """Neither report alone has so many trips."""
    assert call("merge", "--fail-if", rule, *map(str, reports))[0] == code


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no report in it"),
        ("{", "line 1: no JSON (Expecting property name"),
        ('\n{"schema": 1}', "line 2: this is no report of schema 2, but of 1: measure again"),
        ("{}", "line 1: this is no report of schema 2: '{}'"),
        ('{"schema": 2, "event": "reply"}', "line 1: this is no summary of a load"),
        ('{"schema": 2, "event": "summary", "sent": 5}', "line 1: the report lacks 'endpoint'"),
    ],
)
def test_what_is_no_report_is_refused(content: str, told: str, tmp_path: Path) -> None:
    """One line names the file, the line and what is wrong, and the exit code is 2."""
    path = tmp_path / "c.json"
    path.write_text(content)
    code, out, err = call("merge", str(path))
    assert (code, out) == (2, b"")
    assert err.startswith(f"techo: {str(path)!r}")
    assert told in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "merge needs the reports"),
        (["/nowhere/a.json"], "cannot read '/nowhere/a.json': no such file or directory"),
        (["a", "b", "a"], "'a' is named twice"),
        (["a", "./a"], "'./a' is named twice"),
        ([sys.executable], f"{sys.executable!r}, line 1: "),
    ],
)
def test_nonsense_is_refused(arguments: list[str], told: str) -> None:
    """One line names the bad value, and the exit code is 2."""
    code, out, err = call("merge", *arguments)
    assert (code, out) == (2, b"")
    assert told in err


def test_a_rate_and_none_do_not_add_up(
    reports: tuple[Path, Path], tmp_path: Path, port: str
) -> None:
    """Only some of the trips would have a response time."""
    call("load", "-n", "5", port, "--output", str(tmp_path / "c.json"))
    code, _, err = call("merge", str(reports[0]), str(tmp_path / "c.json"))
    assert code == 2
    assert err == "techo: some of the reports have a rate, and others have not\n"
