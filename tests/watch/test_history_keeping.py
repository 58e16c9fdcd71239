"""What a history keeps and for how long, what is damaged in it, and who waits for it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import trio
import trio.testing

from histories import BEGIN, change, span
from techo._watch.counts import DAY, HOUR, MINUTE
from techo._watch.events import State
from techo._watch.history import open_history
from techo._watch.history_file import (
    HistoryError,
    open_to_write,
    opened_to_read,
)
from techo._watch.history_reader import Reader
from techo._watch.history_writer import Keep, NewChange, NewSpan, Writer


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a history is to be."""
    return str(tmp_path / "history.db")


def test_what_is_older_than_it_is_kept_goes(path: str) -> None:
    """Days and changes have limits of their own, which begin at the time of the look."""
    file = open_to_write(path)
    keep = Keep(minutes=HOUR, hours=DAY, days=5 * DAY, changes=2 * DAY)
    writer, reader = Writer(file, keep), Reader(file.connection)
    days = range(BEGIN, BEGIN + 10 * DAY, DAY)
    writer.write([NewSpan.of(span(each, 5000)) for each in days])
    writer.write([NewChange.of(change(each, State.UP)) for each in days])
    for _ in range(60):
        writer.tidy(BEGIN + 10 * DAY)
    assert [each.start for each in reader.spans("web", 0, math.inf, DAY)] == [*days[5:]]
    assert [each.at for each in reader.changes("web", 0, math.inf)] == [*days[8:]]
    file.close()


async def test_a_damaged_row_costs_no_other(path: str) -> None:
    """Others are still written and added up; to read it is an error that names the file."""
    async with open_history(path) as history:
        history.put_span(span(BEGIN, 5000))
        history.put_span(span(BEGIN + MINUTE, 6000))
        await history.flush()
        connection = history._writer.connection
        connection.execute("UPDATE span SET counts = x'ff' WHERE start = ?", (BEGIN,))
        with pytest.raises(HistoryError, match=f"cannot read the history {path!r}: "):
            await history.spans("web", BEGIN, BEGIN + DAY, MINUTE)
    damaged = pytest.raises(HistoryError, match=f"{path!r} is damaged: ")
    with damaged, opened_to_read(path) as connection:
        Reader(connection).spans("web", BEGIN, BEGIN + DAY, MINUTE)
    file = open_to_write(path)
    Writer(file, Keep()).tidy(BEGIN + 2 * HOUR)
    (hour,) = Reader(file.connection).spans("web", BEGIN, BEGIN + HOUR, HOUR)
    assert hour.counts == span(BEGIN, 6000).counts
    file.close()


async def test_old_rows_are_looked_at_without_being_asked_for(
    path: str, patient_clock: trio.testing.MockClock
) -> None:
    """First soon after the beginning, and piece by piece; a file keeps what a file should."""
    async with open_history(path, clock=lambda: BEGIN + 9 * DAY) as history:
        assert history.keep == Keep()
        history.put_span(span(BEGIN, 5000))
        await trio.sleep(20)
        (minute,) = await history.spans("web", 0, math.inf, MINUTE)
    assert minute.seconds == HOUR


async def test_a_flush_during_another_waits_for_no_other_row(
    path: str, autojump_clock: trio.testing.MockClock
) -> None:
    """What is being written then is all that there is to wait for."""
    async with open_history(path) as history:
        await trio.sleep(5)  # by then the next look at what is old is a minute away
        begun = trio.current_time()
        history.put_span(span(BEGIN, 5000))
        async with trio.open_nursery() as nursery, history._limiter:
            for _ in range(2):
                nursery.start_soon(history.flush)
                await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == begun
