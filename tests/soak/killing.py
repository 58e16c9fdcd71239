"""A history whose writer is killed at any moment, and what is found in it afterwards.

As a program it is that writer: it goes on where the one before was killed, and prints the
number of each minute that is in the file.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from histories import BEGIN, change, span
from techo._watch.counts import DAY, HOUR, MINUTE, Counts, Span
from techo._watch.events import Change, State
from techo._watch.history_file import open_to_write, opened_to_read
from techo._watch.history_reader import Reader
from techo._watch.history_writer import Keep, NewChange, NewSpan, Writer

_TARGETS: Final = tuple(f"target {number}" for number in range(25))
"""More than are rolled up in one transaction."""

_STEP: Final = 20 * MINUTE
"""From one minute to the next, so that hours and days are over soon."""

_MOST: Final = 0.2
"""Seconds after which a writer is killed at the latest."""


def rows_of(number: int) -> list[Span | Change]:
    """Return all that is written in one transaction: of each target a minute, and a change."""
    start = BEGIN + number * _STEP
    spans = [span(start, 1000 + number, 10**6, target=each, lost=1) for each in _TARGETS]
    return [*spans, change(start + 0.5, State.DOWN, target=_TARGETS[0])]


def write(path: str) -> None:
    """Write until this process is killed."""
    file = open_to_write(path)
    written = Reader(file.connection).changes(_TARGETS[0], 0, 2**40)
    writer = Writer(file, Keep(3 * HOUR, 2 * DAY))
    for number in itertools.count(len(written)):
        writer.write(
            [
                NewSpan.of(each) if isinstance(each, Span) else NewChange.of(each)
                for each in rows_of(number)
            ]
        )
        print(number, flush=True)
        while writer.tidy(BEGIN + number * _STEP):
            pass


def kill(path: str, seed: int) -> int:
    """Run a writer and kill it; return how many minutes it said are in the file."""
    source = random.Random(seed)  # noqa: S311  -- no secret
    program = [sys.executable, "-P", "-m", "soak.killing", path]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        first = popen.stdout.readline()
        assert first, "the writer has ended"
        time.sleep(source.uniform(0, _MOST))  # any moment: an event would always be the same
        popen.kill()
        *_, last = [first, *popen.stdout.read().split(b"\n")[:-1]]
    return int(last) + 1


def check(path: str, least: int) -> int:
    """Check that a history is whole, and has at least so many minutes; return how many it has.

    Raises:
        AssertionError: it is not.
    """
    with opened_to_read(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        reader = Reader(connection)
        found = reader.changes(_TARGETS[0], 0, 2**40)
        minutes = len(found)
        # The last transaction may have been committed, and not printed any more.
        assert minutes >= least, f"{minutes} minutes are there, of {least}"
        expected = [rows_of(number) for number in range(minutes)]
        assert found == [rows[-1] for rows in expected]
        for index in (0, len(_TARGETS) - 1):
            target = _TARGETS[index]
            total = Counts()
            for rows in expected:
                each = rows[index]
                assert isinstance(each, Span)
                total.add(each.counts)
            for spans in (
                reader.spans(target, 0, 2**40, MINUTE),
                reader.spans(target, 0, 2**40, DAY),
            ):
                counts = Counts()
                for each in spans:
                    counts.add(each.counts)
                assert counts == total, f"{target}: {counts} is not {total}"
    return minutes


def kill_many(folder: Path, times: int) -> int:
    """Kill so many writers of one history, which is whole each time; return its minutes."""
    path, minutes = str(folder / "history.db"), 0
    for seed in range(times):
        minutes = check(path, max(minutes, kill(path, seed)))
    return minutes


if __name__ == "__main__":
    write(sys.argv[1])
