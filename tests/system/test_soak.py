"""The soak itself: who grows is found out, and everyone takes part."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import PATIENCE
from soak.__main__ import CLIENTS, SERVERS, growth


@pytest.mark.parametrize(
    ("samples", "grown"),
    [
        ([*range(20_000, 30_000, 100), *[30_000] * 900], 0),
        (list(range(30_000, 31_000)), 800),
        ([30_000] * 999 + [99_000], 0),
        ([30_000, 30_001], 0),
        ([30_000] * 500 + [32_000] * 500, 2000),
    ],
    ids=["warming up", "leaking", "once", "hardly a sample", "a step"],
)
def test_growth_is_from_when_it_has_settled_to_the_end(samples: list[int], grown: int) -> None:
    """A tenth is for warming up, and one odd sample is no growth."""
    assert growth(samples) == pytest.approx(grown, abs=1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells memory so")
def test_everyone_takes_part_and_ends_well() -> None:
    """Each has its line; in two seconds nobody's memory can be judged."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "soak", "--seconds", "2", "--kills", "2"],
        capture_output=True,
        timeout=10 * PATIENCE,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    history, handshakes, *lines = done.stdout.decode().splitlines()
    assert done.returncode in {0, 1}, done.stderr.decode()
    assert re.fullmatch(r"history +\d+ minutes, killed 2 times: whole", history)
    assert re.fullmatch(r"\d+ handshakes", handshakes)
    for name, line in zip([*SERVERS, *CLIENTS], lines, strict=True):
        found = re.fullmatch(
            rf"{name} +\d+ KiB, grown by +-?\d+ KiB, \d+ samples: (NOT FLAT|exit [01])", line
        )
        assert found, line
