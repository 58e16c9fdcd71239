"""techo ping with several targets: a watch with a count, and a line for each result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import call, free_endpoint, serving

QUICK = ["-i", "0.01", "-W", "0.5"]


@pytest.fixture(scope="module")
def good() -> Iterator[str]:
    """An endpoint that answers."""
    with serving() as process:
        yield str(process.endpoints[0])


def test_each_result_is_a_line_and_a_table_ends_it(good: str, tmp_path: Path) -> None:
    """Targets come from a file, too; one that is there twice is two."""
    path, gone = tmp_path / "targets", free_endpoint("tcp")
    path.write_text(f"# what is there\n\n{good}  # twice\n{gone}\n")
    code, out, errors = call("ping", "-n", "2", *QUICK, "--targets", str(path), good)
    assert (code, errors) == (1, f"techo: {gone}: none of 2 probes came back\n")
    *lines, head, first, second, third = out.decode().splitlines()
    assert sorted(line.partition(" time=")[0] for line in lines) == sorted(
        f"64 bytes from {name}: seq={seq}" for name in (good, f"{good} (2)") for seq in (1, 2)
    ) + sorted(
        f"no reply from {gone}: seq={seq} refused (connection refused)" for seq in (1, 2)
    )
    assert head.split() == ["target", "sent", "lost", "loss", "min", "p50", "p99", "max"]
    assert first.split()[:4] == [good, "2", "0", "0"]
    assert second.startswith(f"{good} (2)")
    assert third.split()[:5] == [gone, "2", "2", "100", "%"]


def test_a_file_of_too_many_targets_is_refused(tmp_path: Path) -> None:
    """Nothing is sent then; the limit is named."""
    path = tmp_path / "targets"
    path.write_text("127.0.0.1:1\n" * 10_001)
    code, out, errors = call("ping", "-n", "1", "--targets", str(path))
    assert (code, out) == (2, b"")
    assert errors.startswith(f"techo: {path}: 10,001 targets are too many; 10,000 are allowed")


def test_a_deadline_ends_each_by_itself(good: str) -> None:
    """With -w, -n is how many replies are enough, and an error ends what cannot answer."""
    gone = free_endpoint("tcp")
    code, out, errors = call("ping", "-n", "3", "-w", "60", "--json", *QUICK, good, gone)
    # More of them are due before the error ends it, on a slow machine.
    assert re.fullmatch(f"techo: {gone}: none of [0-9]+ probes? came back\n", errors)
    assert code == 1
    found = [json.loads(line) for line in out.splitlines()]
    summaries = {each["endpoint"]: each for each in found if each["event"] == "summary"}
    # One more may be in flight when the third comes back, on a slow machine.
    assert summaries[good]["received"] in (3, 4)
    assert summaries[gone]["lost"] == summaries[gone]["sent"]
    assert {each["target"] for each in found if each["event"] == "reply"} == {good}


def test_less_than_was_asked_for_within_a_deadline_is_a_failure(good: str) -> None:
    """As it is for one target."""
    code, out, errors = call("ping", "-q", "-n", "999", "-w", "0.5", *QUICK, good, good)
    assert (code, out.count(b"\n")) == (1, 3)
    assert errors.count(" of 999 came back within 500ms\n") == 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-s", "1-9", "8009", "8010"], "--size: a range of sizes is for one endpoint"),
        (["--clock", "user", "8009", "8010"], "--clock is for one endpoint"),
        (["--connect", "8009", "udp://8009"], "connecting to udp://127.0.0.1:8009 shows"),
        (["--targets", "/no/file"], "cannot read '/no/file': No such file"),
        (["--targets", "-"], "-:2: bad endpoint 'x y'"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], error: str) -> None:
    """Nothing is probed then."""
    code, out, errors = call("ping", *words, stdin=b"8009\nx y\n")
    assert (code, out, errors.count("\n")) == (2, b"", 1)
    assert error in errors


def test_none_that_was_ever_reached_is_a_status_of_its_own() -> None:
    """Whatever the reasons were."""
    targets = [free_endpoint("tcp"), free_endpoint("udp")]
    code, _, errors = call("ping", "-qn", "1", *QUICK, *targets)
    assert code == 2
    assert errors.startswith("techo: none of 2 targets was ever reached (refused 2); ")
