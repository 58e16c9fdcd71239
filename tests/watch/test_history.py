"""A history: what is put into it comes out of it, whatever happens to disk and clock."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from histories import BEGIN, change, outage, span
from techo._watch.columns import Texts
from techo._watch.counts import DAY, HOUR, MINUTE, Counts, Span
from techo._watch.events import State
from techo._watch.history import open_history
from techo._watch.history_file import (
    HistoryError,
    open_to_write,
    opened_to_read,
)
from techo._watch.history_reader import Reader, levels_of
from techo._watch.history_writer import Keep, NewSpan, Writer


def clock() -> float:
    """Return the time at which all of it happens, in Unix time."""
    return BEGIN + 2 * HOUR


WIDE = [int(1000 * 1.01**number) for number in range(1500)]
"""Durations in so many buckets that a row of them takes pages of its own."""


def added_up(spans: Sequence[Span]) -> Counts:
    """Return the sum of spans."""
    total = Counts()
    for each in spans:
        total.add(each.counts)
    return total


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a history is to be."""
    return str(tmp_path / "history.db")


async def test_what_is_put_can_be_read(path: str) -> None:
    """Spans and changes come back as they were, by target or all, and also from the file."""
    spans = [
        span(BEGIN, 5000, 7000),
        span(BEGIN + MINUTE, 6000, lost=3),
        span(BEGIN + MINUTE, 1000, target="db\udcff"),
    ]
    changes = [
        change(BEGIN + 4.5, State.DOWN, began=outage(BEGIN + 1.5)),
        change(BEGIN + 60.25, State.UP, ended=outage(BEGIN + 1.5, seconds=2.25)),
    ]
    async with open_history(path, clock=clock) as history:
        assert await history.extent() is None
        for each in spans:
            history.put_span(each)
        for state in changes:
            history.put_change(state)
        await history.flush()
        assert await history.extent() == BEGIN
        assert await history.spans("web", BEGIN, BEGIN + 90, MINUTE) == spans[:2]
        assert await history.spans("db\udcff", 0, float("inf"), MINUTE) == spans[2:]
        assert len(await history.spans(None, BEGIN + MINUTE, BEGIN + DAY, MINUTE)) == 2
        assert await history.spans("web", BEGIN + 90, BEGIN + 91, MINUTE) == spans[1:2]
        assert await history.spans("nobody", 0, BEGIN + DAY, MINUTE) == []
        assert await history.changes(None, BEGIN, BEGIN + DAY) == changes
        assert await history.changes("web", BEGIN + 10, BEGIN + 60) == []
        assert await history.changes("db\udcff", BEGIN, BEGIN + DAY) == []
        with opened_to_read(path) as connection:
            assert Reader(connection).spans("web", 0, BEGIN + DAY, MINUTE) == spans[:2]
    with opened_to_read(path) as connection:
        reader = Reader(connection)
        assert reader.targets() == ["db\\udcff", "web"]
        # The state that it was in when the time began was of before.
        times = BEGIN + 10, BEGIN + 60
        assert reader.changes("web", *times, with_last=True) == changes[:1]
    assert not os.path.exists(f"{path}-wal")  # noqa: ASYNC240, PTH110  -- nothing waits for it


async def test_a_minute_that_comes_twice_is_added(path: str) -> None:
    """A clock that was set back makes no minute of another one."""
    async with open_history(path, clock=clock) as history:
        for duration in (5000, 6000):
            history.put_span(span(BEGIN, duration, lost=1))
            await history.flush()
        (found,) = await history.spans("web", BEGIN, BEGIN + 1, MINUTE)
    assert found == span(BEGIN, 5000, 6000, lost=2)


@pytest.mark.parametrize("seconds", [MINUTE, 10 * MINUTE, HOUR, 2 * HOUR, DAY])
async def test_a_column_that_was_read_before_has_what_came_since(
    path: str, seconds: int
) -> None:
    """A minute may come late, and a past of several targets is that of each of them."""
    begins = {"web": BEGIN + 10.0, "db": 0.0, "nobody": 0.0}
    changes = [change(BEGIN + 10 * each, State.UP) for each in range(3)]
    async with open_history(path, clock=clock) as history:
        for target in ("db", "web"):
            history.put_span(span(BEGIN, 100_000, target=target))
            history.put_span(span(BEGIN + MINUTE, 9000, target="db"))
        for each in changes:
            history.put_change(each)
        for late in (1, 2, 3):
            history.put_span(span(BEGIN, 5000, target="web", lost=1))
            await history.flush()
            found = await history.pasts(begins, BEGIN, BEGIN + DAY, seconds)
            received = {
                name: [
                    (each["start"], each["received"], each["lost"])
                    for each in json.loads(past.columns.to_text())
                ]
                for name, past in found.items()
            }
            one = [(BEGIN, 3, 0)]
            two = [(BEGIN, 1, 0), (BEGIN + MINUTE, 2, 0)]
            db = two if seconds == MINUTE else one
            assert received == {"web": [(BEGIN, 1 + late, late)], "db": db, "nobody": []}
    assert found["web"].changes == changes[1:]
    assert found["db"].changes == []


async def test_cancelled_it_writes_what_waits(path: str) -> None:
    """What ends the block does not end the last second's rows."""
    with trio.CancelScope() as scope:
        async with open_history(path, clock=clock) as history:
            history.put_span(span(BEGIN, 5000))
            scope.cancel()
            await trio.sleep_forever()
    with opened_to_read(path) as connection:
        assert len(Reader(connection).spans("web", 0, BEGIN + DAY, MINUTE)) == 1


def test_minutes_become_hours_and_days_exactly(path: str) -> None:
    """At every moment each length has the same sum, whatever was rolled up or is gone."""
    file = open_to_write(path)
    writer, reader = Writer(file, Keep(3 * HOUR, 2 * DAY)), Reader(file.connection)
    put, targets = [], [f"t{number:02}" for number in range(60)]
    for minute in range(0, 3 * DAY, 10 * MINUTE):
        now = BEGIN + minute
        rows = [span(now, 5000 + minute, 9000, target=target, lost=1) for target in targets[:2]]
        if minute % DAY == 0:  # more than are rolled up at once
            rows += [span(now, 1000, target=target) for target in targets[2:]]
        if minute == DAY + 5 * HOUR:  # a clock was set back over what is rolled up, and gone
            rows += [span(BEGIN + offset, 777, target="t00") for offset in (0, MINUTE, HOUR)]
            rows += [span(BEGIN + 2 * HOUR, 777, target="t59")]  # which has no such hour
        put += rows
        writer.write([NewSpan.of(each) for each in rows])
        while writer.tidy(now):
            pass
        if minute % (7 * HOUR) == 0:
            for target in ("t00", "t01", "t59"):
                expected = added_up([each for each in put if each.target == target])
                assert added_up(reader.spans(target, 0, now + 1, MINUTE)) == expected
                assert added_up(reader.spans(target, 0, now + 1, DAY)) == expected
                few = reader.fewest(target, 0)
                assert added_up(few) == expected
                assert len(few) < 3 + 24 + 12
                for ago in (0, 600, HOUR, 100 * MINUTE):
                    assert added_up(reader.fewest(target, now - ago)) == added_up(
                        reader.spans(target, now - ago, now + 1, MINUTE)
                    )
    end = BEGIN + 3 * DAY
    assert [each.start for each in reader.spans("t01", 0, end, DAY)] == [
        BEGIN,
        BEGIN + DAY,
        BEGIN + 2 * DAY,
    ]
    lengths = [each.seconds for each in reader.spans("t01", 0, end, HOUR)]
    assert lengths == [DAY] + [HOUR] * 48
    lengths = [each.seconds for each in reader.spans("t01", 0, end, MINUTE)]
    assert lengths[:46] == [DAY] + [HOUR] * 45
    assert {*lengths[46:]} == {MINUTE}
    assert 18 <= len(lengths[46:]) <= 24
    file.close()


def test_a_clock_that_was_ahead_harms_nothing(path: str) -> None:
    """What came while it was and afterwards is all there, once, and later minutes are kept."""
    file = open_to_write(path)
    writer, reader = Writer(file, Keep()), Reader(file.connection)
    put = list[Span]()
    for hour in range(30):
        ahead = 10_000 * DAY if hour in {12, 13} else 0
        for minute in range(0, HOUR, 10 * MINUTE):
            now = BEGIN + ahead + hour * HOUR + minute
            put.append(span(now, 5000 + hour))
            writer.write([NewSpan.of(put[-1])])
            while writer.tidy(now):
                pass
        assert levels_of(file.connection)[HOUR].rolled <= now
    expected, end = added_up(put), BEGIN + 20_000 * DAY
    assert added_up(reader.spans("web", 0, end, DAY)) == expected
    assert added_up(reader.spans("web", 0, end, MINUTE)) == expected
    later = reader.spans("web", BEGIN + DAY, BEGIN + 2 * DAY, MINUTE)
    assert later == [each for each in put if BEGIN + DAY <= each.start < BEGIN + 2 * DAY]
    file.close()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", None),
        (b"x" * 5000, "is no history of techo watch, and stays as it is; name another file"),
        (
            "PRAGMA journal_mode = WAL; CREATE TABLE mine (a)",
            "is no history of techo watch, and stays as it is",
        ),
        ("PRAGMA user_version = 7", "is no history of techo watch"),
    ],
)
def test_other_files_are_refused_and_not_touched(
    content: str | bytes, told: str | None, path: str
) -> None:
    """Neither bytes of anything else nor another's database; only an empty file is begun."""
    if isinstance(content, bytes):
        Path(path).write_bytes(content)
    else:
        connection = sqlite3.connect(path)
        connection.executescript(content)
        connection.close()
    before = Path(path).read_bytes()
    if told is None:
        open_to_write(path).close()
        return
    with pytest.raises(HistoryError, match=told):
        open_to_write(path)
    with pytest.raises(HistoryError, match=told), opened_to_read(path):
        pass
    assert Path(path).read_bytes() == before
    assert [each.name for each in Path(path).parent.iterdir()] == [Path(path).name]


def test_a_newer_version_is_refused(path: str) -> None:
    """The error has both versions."""
    file = open_to_write(path)
    file.connection.execute("PRAGMA user_version = 2")
    file.close()
    for opened in (lambda: open_to_write(path), lambda: opened_to_read(path).__enter__()):
        with pytest.raises(
            HistoryError, match="of version 2, and this techo has version 1; use"
        ):
            opened()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "'' is not the name of a file"),
        (".", "it is a folder"),
        ("none/history.db", "there is no folder '{folder}/none'"),
    ],
)
def test_a_place_where_no_file_can_be_is_refused(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the name and the reason."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HistoryError) as caught:
        open_to_write(name)
    assert told.format(folder=tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


async def test_a_second_writer_is_refused(path: str) -> None:
    """The error names the file and what to do; readers come and go, and then another writes."""
    async with open_history(path, clock=clock) as history:
        history.put_span(span(BEGIN, 5000))
        await history.flush()
        link = Path(path).with_name("link")
        link.symlink_to(path)
        for name in (path, str(link)):
            with pytest.raises(HistoryError, match=f"{name!r} has a writer already; end the"):
                async with open_history(name, clock=clock):
                    pass
        with opened_to_read(path) as connection:
            assert Reader(connection).extent() == BEGIN
        history.put_span(span(BEGIN + MINUTE, 5000))
        await history.flush()
        assert len(await history.spans("web", 0, BEGIN + DAY, MINUTE)) == 2
    async with open_history(path, clock=clock) as history:
        assert await history.extent() == BEGIN


async def test_a_private_history_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no name, and what it keeps is of about a day."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    async with open_history(None, clock=clock) as history:
        history.put_span(span(BEGIN, 5000))
        await history.flush()
        assert await history.spans(None, 0, BEGIN + DAY, HOUR) == [
            Span("web", BEGIN, HOUR, span(BEGIN, 5000).counts)
        ]
        assert history.keep.minutes == DAY
    assert os.listdir(tmp_path) == []  # noqa: PTH208  -- as above


async def test_a_full_disk_is_waited_for(
    path: str, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """Rows wait and are written when there is room; the log has when it began and ended."""
    with caplog.at_level(logging.INFO, "techo.server"):
        async with open_history(path, clock=clock, most_waiting=50) as history:
            connection = history._writer.connection
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}")
            for minute in range(60):
                history.put_span(span(BEGIN + minute * MINUTE, *WIDE))
                if minute % 20 == 0:
                    await history.flush()
            begun = caplog.messages[:]
            await history.flush()
            assert await history.spans("web", 0, BEGIN + DAY, MINUTE) == []
            connection.execute("PRAGMA max_page_count = 100000")
            await history.flush()
            assert len(await history.spans("web", 0, BEGIN + DAY, MINUTE)) == 50
            history.put_span(span(BEGIN, 5))
    name = f"the history {path!r}"
    full = "database or disk is full; watching goes on, and what it finds waits"
    assert begun == [
        f"{name} cannot be written: {full}",
        f"{name}: 50 rows wait to be written; others are dropped",
    ]
    assert caplog.messages == [*begun, f"{name} is written again; 10 rows were dropped"]


async def test_what_is_lost_at_the_end_is_said(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is still full when watching ends."""
    async with open_history(path, clock=clock) as history:
        history._writer.connection.execute("PRAGMA query_only = 1")
        history.put_span(span(BEGIN, 5))
    assert caplog.messages[1:] == [f"the history {path!r}: 1 row was not written in the end"]


_JUMPS = [0, MINUTE, MINUTE, 50 * MINUTE, HOUR, 5 * HOUR, DAY, 4 * DAY]


@settings(max_examples=40)  # two thousand have been tried
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*_JUMPS, *(-each for each in _JUMPS)]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 4),
        ),
        max_size=30,
    )
)
def test_nothing_is_lost_or_counted_twice_whatever_the_clock_does(
    steps: list[tuple[int, str, int]],
) -> None:
    """However it jumps, and however far old rows have been looked at, all sums are exact."""
    file = open_to_write(None)
    writer, reader = Writer(file, Keep(2 * HOUR, DAY)), Reader(file.connection)
    put, now, texts = {"a": Counts(), "b": Counts()}, BEGIN, Texts()
    for number, (jump, target, pieces) in enumerate(steps):
        now = max(now + jump, DAY)
        minute = span(now // MINUTE * MINUTE, 1000 + number, target=target, lost=number % 2)
        put[target].add(minute.counts)
        writer.write([NewSpan.of(minute)])
        for _ in range(pieces):
            writer.tidy(now)
        for seconds in (MINUTE, HOUR, DAY):
            found = reader.spans(target, 0, math.inf, seconds)
            assert added_up(found) == put[target], seconds
            assert [each.start for each in found] == sorted({each.start for each in found})
            columns = reader.columns([target], 0, math.inf, seconds, texts=texts)[target]
            assert [
                (each["start"], each["seconds"], each["received"])
                for each in json.loads(columns.to_text())
            ] == [(each.start, each.seconds, each.counts.received) for each in found]
        assert added_up(reader.fewest(target, 0)) == put[target]
    file.close()
