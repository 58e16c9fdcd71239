"""techo compare: two sides of runs from files, a table, an object, a picture and rules."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import techo
from comparisons import noisy, run, write
from helpers import call


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two sides, the second a tenth slower, as a file each and a file for each run."""
    folder = tmp_path_factory.mktemp("runs")
    for name, milliseconds in (("before", 1.0), ("after", 1.1)):
        runs = noisy(6, noise=0.01, seed=len(name), milliseconds=milliseconds)
        write(folder / f"{name}.json", runs)
        for number, each in enumerate(runs):
            write(folder / f"{name}-{number}.json", [each])
    return folder


def compare(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Compare the sides; return the exit code and what was printed."""
    files = (str(folder / name) for name in ("before.json", "after.json"))
    code, out, err = call("compare", *files, *arguments)
    return code, out.decode(), err


def test_people_get_a_table(folder: Path) -> None:
    """Each figure has a row, with its change, the interval and the verdict in words."""
    code, out, err = compare(folder)
    assert (code, err) == (0, "")
    assert out.startswith("before: 6 runs of tcp://127.0.0.1:8009, 6,000 round trips\n")
    assert "\n10 connections x 64 bytes, service time\n" in out
    rows = {line.split()[0]: line for line in out.splitlines() if " ms " in line}
    assert list(rows) == ["p50", "p90", "p95", "p99", "p99.9", "mean"]
    assert all(row.endswith("   slower") for row in rows.values())
    assert " % " in rows["p50"].partition(" to ")[2]
    (loss,) = (line.split("   ") for line in out.splitlines() if line.startswith("loss"))
    cells = [cell.strip() for cell in loss if cell]
    assert cells == ["loss %", "0", "0", "0 points", "-", "no change shown"]


def test_machines_get_an_object(folder: Path, tmp_path: Path) -> None:
    """What is printed is what is kept, and what the library says of the same runs."""
    path = tmp_path / "change.json"
    code, out, _ = compare(folder, "--json", "--output", str(path))
    assert code == 0
    assert path.read_text() == out
    before, after = (
        [
            techo.LoadReport.from_json(json.loads(line))
            for line in (folder / f"{name}.json").read_text().splitlines()
        ]
        for name in ("before", "after")
    )
    assert json.loads(out) == techo.compare(before, after).to_json()


def test_a_side_can_have_several_files(folder: Path) -> None:
    """They count as if they were one, whether an option names them at once or is repeated."""
    before, after = (
        [str(folder / f"{name}-{number}.json") for number in range(6)]
        for name in ("before", "after")
    )
    expected = compare(folder, "--json")[1]
    found = call("compare", "--json", "--before", *before, "--after", *after)
    assert (found[0], found[1].decode()) == (0, expected)
    split = ["--after", *after[:2], "--json", "--before", *before, "--after", *after[2:]]
    assert call("compare", *split)[1].decode() == expected


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        ("p50>+5%", 1, "techo: p50>+5%: p50 changed by +"),
        ("p50>+50%", 0, ""),
        ("rate<-5%", 1, "techo: rate<-5%: rate changed by -"),
        ("loss>+0%", 0, ""),
    ],
)
def test_a_rule_fires_on_a_change_that_is_shown(
    rule: str, code: int, said: str, folder: Path
) -> None:
    """It is a failure if the change is beyond the limit."""
    found, _, err = compare(folder, "--fail-if", rule)
    assert found == code
    assert err.startswith(said)
    assert bool(err) == bool(said)


def test_a_rule_on_chance_does_not_fire(tmp_path: Path) -> None:
    """However large a change looks, it is none until it is shown."""
    before = write(tmp_path / "a", noisy(5, noise=0.5, seed=2))
    after = write(tmp_path / "b", noisy(5, noise=0.5, seed=1))
    code, out, _ = call("compare", before, after, "--json", "--fail-if", "p50<-1%")
    figure = json.loads(out)["figures"]["p50"]
    assert (code, figure["verdict"]) == (0, "no_change_shown")
    assert figure["change"] < -1


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ([20] * 5, "p99 grew beyond any percentage"),
        (
            [20, 0, 0, 0, 0],
            "cannot tell, 1 of 5 runs after lost so many trips that it is among them",
        ),
    ],
)
def test_a_rule_fires_if_its_figure_is_lost(lost: list[int], said: str, tmp_path: Path) -> None:
    """A server that loses so much that there is no p99 does not pass."""
    before = write(tmp_path / "a", noisy(5, noise=0.01, seed=1))
    after = write(tmp_path / "b", [run(lost=each) for each in lost])
    code, _, err = call("compare", before, after, "--fail-if", "p99>+10%")
    assert (code, err) == (1, f"techo: p99>+10%: {said}\n")


def test_too_few_runs_are_no_answer(folder: Path) -> None:
    """The table is there, and the exit code is 2, whatever the rules."""
    files = str(folder / "before-0.json"), str(folder / "after.json")
    code, out, err = call("compare", *files, "--fail-if", "p50>+1%")
    assert code == 2
    assert b"\np50 ms " in out
    assert (
        "cannot tell: it takes 5 runs on each side, and there are 1 before and 6 after" in err
    )


def test_a_picture_has_both_sides(folder: Path, tmp_path: Path) -> None:
    """Each side has a thick curve with its name, and a thin one for each run."""
    path = tmp_path / "change.svg"
    assert compare(folder, "--plot", str(path))[0] == 0
    picture = path.read_text()
    for name in ("before", "after"):
        assert f"{name}: 6 runs, n = 6,000, 0 lost" in picture
    assert picture.count("stroke-opacity: 0.35") == 12
    assert re.search(r"p50 \+\d+\.\d % \(slower\), p99 \+", picture)


def test_a_picture_of_a_dead_server_has_no_percentage(tmp_path: Path) -> None:
    """Its title says what is known, and its curve is not there."""
    before = write(tmp_path / "a", noisy(5, noise=0.01, seed=1))
    after = write(tmp_path / "b", [run(trips=0, lost=1000)] * 5)
    path = tmp_path / "change.svg"
    assert call("compare", before, after, "--plot", str(path))[0] == 0
    picture = path.read_text()
    assert "p50: slower, p99: slower" in picture
    assert "after: 5 runs, n = 0, 5,000 lost" in picture


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "compare needs two sides: techo compare BEFORE AFTER, or --before FILE..."),
        (["before.json"], "compare needs two sides"),
        (["before.json", "after.json", "before-0.json"], "compare needs two sides"),
        (["--before", "before.json"], "compare needs two sides"),
        (["before.json", "--after", "after.json"], "compare needs two sides"),
        (["before.json", "before.json"], "'before.json' is named twice"),
        (["nowhere", "after.json"], "cannot read 'nowhere': no such file or directory"),
        (["before.json", "spread.json"], "'spread.json', line 1: no JSON (Expecting property"),
        (["before.json", "spread.json"], "; a report of techo load --output is one line"),
        (["before.json", "large.json"], "messages differ in size: 64 before, 1,024 after"),
        (["--before"], "argument --before: expected at least one argument"),
        (["before.json", "after.json", "--fail-if", "p99>10%"], "write +10% or -10%"),
        (
            ["before.json", "after.json", "--fail-if", "max>+1%"],
            "no figure 'max': only ping, load, merge and watch have it",
        ),
        (["before.json", "after.json", "--plot", "a.gif"], "neither .svg nor .png"),
    ],
)
def test_nonsense_is_refused(
    arguments: list[str], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says what is wrong, and the exit code is 2."""
    monkeypatch.chdir(folder)
    write(folder / "large.json", [run(size=1024)])
    (folder / "spread.json").write_text(json.dumps(run().to_json(), indent=4))
    code, out, err = call("compare", *arguments)
    assert (code, out) == (2, b"")
    assert said in err
    assert len(err.splitlines()) == 1
