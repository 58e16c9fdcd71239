"""techo history: what watch has written, for people and machines."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from helpers import call
from histories import BEGIN, change, outage, span, write
from techo._watch.counts import HOUR, MINUTE
from techo._watch.events import State
from techo._watch.history import open_history

LONG = "a-target-whose-name-is-longer-than-its-column"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A history of two targets, one of which was down twice, and is down again."""
    path = str(tmp_path_factory.mktemp("history") / "watch.db")
    events = [outage(BEGIN + 2), outage(BEGIN + 120, seconds=100.5), outage(BEGIN + 3601)]
    changes = [
        change(BEGIN + 4, State.DOWN, began=events[0]),
        change(BEGIN + 9, State.UP, ended=outage(BEGIN + 2, seconds=5.5)),
        change(BEGIN + 124, State.DOWN, began=outage(BEGIN + 120)),
        change(BEGIN + 300, State.UP, ended=events[1]),
        change(BEGIN + HOUR + 4, State.DOWN, began=events[2]),
    ]
    spans = [
        span(BEGIN, *[1_000_000] * 99, 7_000_000, lost=3),
        span(BEGIN + HOUR, *[2_000_000] * 150, lost=20),
        span(BEGIN + HOUR, 10**6, target=LONG),
    ]
    write(path, [*spans, *changes])
    return path


def test_people_get_a_table_and_the_events(file: str) -> None:
    """It fits 80 columns, and adds up exactly; what has no end says so."""
    code, out, err = call("history", file)
    assert (code, err) == (0, "")
    lines = out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(out.decode().split())
    assert "2 targets, from " in text
    assert f"{LONG} 1 0 0.000 - - 0s" in text
    assert "web 273 23 8.425 2.007 lost 11.500s" in text
    assert "all of them 274 23 8.394 2.007 lost 11.500s" in text
    assert "--- web --- lost: refused 23 down 5.500 s, " in text
    assert (
        "3 probes lost, refused, connection refused; then host is down down 100.500 s, " in text
    )
    assert " on, without an end in the file 3 probes lost, refused, connection refused" in text
    assert len(re.findall(r"\bdown (from )?[\d.]+ ?s?", text)) == 3


def test_machines_get_each_change_and_the_sum(file: str) -> None:
    """A target's changes come before its sum, and the sum of all comes last."""
    code, out, err = call("history", file, "--json")
    assert (code, err) == (0, "")
    objects = [json.loads(line) for line in out.splitlines()]
    assert [(each["event"], each["target"]) for each in objects] == [
        ("history", LONG),
        *[("change", "web")] * 5,
        ("history", "web"),
        ("history", None),
    ]
    web, everything = objects[-2:]
    assert (web["received"], web["lost"], web["failures"]) == (250, 23, {"refused": 23})
    assert (web["from_ns"], web["to_ns"]) == (
        BEGIN * 10**9,
        (BEGIN + HOUR + MINUTE) * 10**9,
    )
    assert web["outages"] == {
        "count": 3,
        "total_ns": 165_000_000_000,
        "longest": {
            "from_ns": (BEGIN + 120) * 10**9,
            "to_ns": BEGIN * 10**9 + 220_500_000_000,
            "duration_ns": 100_500_000_000,
            "probes": 3,
        },
    }
    assert everything["received"] == 251


def test_every_shows_what_there_is_of_a_length(file: str) -> None:
    """A line or an object for each, and the figures add up to those of the whole."""
    _, out, _ = call("history", file, "web", "--every", "hour")
    rows = out.decode().partition("\nfrom ")[2].splitlines()[1:]
    assert [row.split()[2:4] for row in rows] == [["103", "3"], ["170", "20"]]
    _, out, _ = call("history", file, "web", "--every", "hour", "--json")
    spans = [each for each in map(json.loads, out.splitlines()) if each["event"] == "span"]
    assert [(each["seconds"], each["received"]) for each in spans] == [(3600, 100), (3600, 150)]


def test_since_begins_at_the_minute_that_has_it(file: str) -> None:
    """What was over before is left out, and what goes on is not."""
    ago = time.time() - (BEGIN + HOUR - 30)
    code, out, _ = call("history", file, "web", "--json", "--since", f"{ago}s")
    assert code == 0
    change_, web = map(json.loads, out.splitlines())
    assert change_["at_ns"] == (BEGIN + HOUR + 4) * 10**9
    assert (web["from_ns"], web["received"]) == ((BEGIN + HOUR) * 10**9, 150)
    assert web["outages"]["count"] == 1
    _, out, _ = call("history", file, "--since", "1h")
    text = " ".join(out.decode().split())
    assert "2 targets, and no minute of that time" in text
    assert "without an end in the file" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "history needs the file: FILE of techo watch --history FILE"),
        (["/nowhere/a.db"], "cannot read '/nowhere/a.db': no such file or directory"),
        (["{folder}"], "cannot read '{folder}': is a directory"),
        ([__file__], "is no history of techo watch"),
        (["{file}", "wbe"], "in '{file}'; did you mean web?; it has " + LONG + ", web\n"),
        (
            ["{file}", "web", "8"],
            "there is no target '8' in '{file}'; it has " + LONG + ", web\n",
        ),
    ],
)
def test_what_cannot_be_reported_is_named(
    arguments: list[str], told: str, file: str, tmp_path: Path
) -> None:
    """One line names the file or the target, and what there is; the exit code is 2."""
    names = {"file": file, "folder": str(tmp_path)}
    code, out, err = call("history", *(each.format(**names) for each in arguments))
    assert (code, out) == (2, b"")
    assert told.format(**names) in err
    assert err.count("\n") == 1


async def test_it_reads_beside_the_writer(tmp_path: Path) -> None:
    """A running watch has its minutes reported, and goes on."""
    path = str(tmp_path / "watch.db")
    async with open_history(path, clock=lambda: BEGIN + HOUR) as history:
        for minute in range(2):
            history.put_span(span(BEGIN + minute * MINUTE, 5000))
            await history.flush()
            _, out, _ = call("history", path, "--json")
            assert json.loads(out)["received"] == minute + 1
