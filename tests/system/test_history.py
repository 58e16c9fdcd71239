"""A history: its writer is killed, and its disk is full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import needs
from histories import BEGIN, span
from soak import killing
from techo._watch.counts import DAY, HOUR, MINUTE
from techo._watch.history import open_history

WIDE = [int(1000 * 1.01**number) for number in range(1500)]
"""Durations in so many buckets that a row of them has more than a page."""


def test_a_killed_writer_loses_nothing_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed five times at any moment, all that was committed is there, once."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent), prepend=os.pathsep)
    assert killing.kill_many(tmp_path, 5) >= 5


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte; making it takes root."""
    if os.geteuid() != 0:
        pytest.skip("to mount a file system takes root")
    mount, unmount = needs("mount"), needs("umount")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.decode()}")
    yield folder
    subprocess.run([unmount, folder], check=True)


async def test_a_full_disk_is_waited_for(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file fills the disk, and when it is gone all that has waited is written."""
    path = str(small / "history.db")
    async with open_history(path, clock=lambda: BEGIN + 2 * HOUR) as history:
        history.put_span(span(BEGIN, *WIDE))
        await history.flush()
        ballast = small / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass  # it is full
        for minute in range(1, 90):
            history.put_span(span(BEGIN + minute * MINUTE, *WIDE))
            await history.flush()
        assert len(caplog.messages) == 1
        assert "watching goes on" in caplog.messages[0]
        before = await history.spans("web", 0, BEGIN + DAY, MINUTE)
        assert 1 <= len(before) < 90
        ballast.unlink()
        await history.flush()
        assert len(await history.spans("web", 0, BEGIN + DAY, MINUTE)) == 90
    assert len(caplog.messages) == 2
    assert caplog.messages[1].endswith("is written again")
