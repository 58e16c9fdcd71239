"""The command that watch runs for each change: real processes, and a clock that tests set."""

from __future__ import annotations

import json
import os
import select
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from helpers import PATIENCE
from histories import BEGIN, change
from techo._cli import on_change
from techo._cli.on_change import OnChange, read_command
from techo._watch.events import State

CHANGES = [change(BEGIN + number, State.UP, target="web") for number in range(3)]

HANGS = """
exec 3>"$0"
cat >/dev/null
(trap "" TERM; echo ready >&3; exec sleep 600) &
wait
"""
"""A shell that ends when it is asked to, and a child of its own that does not. They are ready
when they have been given the change, so that their time is running."""

LEAVES = """
exec 3>"$0"
cat >/dev/null
sleep 600 &
echo ready >&3
"""
"""A shell that leaves a child behind."""


async def test_each_change_is_on_the_standard_input_of_one_command_after_the_other(
    tmp_path: Path,
) -> None:
    """Of one target they come in their order, and never two at a time."""
    lock, seen = tmp_path / "lock", tmp_path / "seen"
    script = 'mkdir "$1" || exit 1; cat >>"$2"; rmdir "$1"'
    async with trio.open_nursery() as nursery:
        running = OnChange(["sh", "-c", script, "sh", str(lock), str(seen)], nursery)
        for each in CHANGES:
            running.put(each)
    assert running.failed == 0
    lines = seen.read_text().splitlines()
    assert [json.loads(line) for line in lines] == [each.to_json() for each in CHANGES]


async def test_what_it_prints_goes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output may be for machines."""
    async with trio.open_nursery() as nursery:
        OnChange(["sh", "-c", "echo said"], nursery).put(CHANGES[0])
    assert capfd.readouterr() == ("", "said\n")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["sh", "-c", "exit 3"], "ended with status 3"),
        (["/nowhere/at-all"], "could not be run: no such file or directory"),
    ],
)
async def test_a_command_that_fails_is_reported(
    command: list[str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the next change has its own, all the same."""
    async with trio.open_nursery() as nursery:
        running = OnChange(command, nursery)
        running.put(CHANGES[0])
        running.put(CHANGES[1])
    assert caplog.messages == [f"the command for a change of web {reason}"] * 2
    assert running.failed == 2


class Holders:
    """Who has a FIFO open to write, which a shell and what it starts do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)

    async def begin(self) -> None:
        """Wait until all of them are there."""
        self.number = await trio.to_thread.run_sync(os.open, self.path, os.O_RDONLY)
        await trio.lowlevel.wait_readable(self.number)
        assert os.read(self.number, 99) == b"ready\n"

    def end(self) -> None:
        """Wait until none of them is there any more."""
        assert select.select([self.number], [], [], PATIENCE)[0], "something is left behind"
        assert os.read(self.number, 99) == b""
        os.close(self.number)


@pytest.mark.parametrize("end", ["time", "cancelled"])
async def test_after_10_s_or_at_the_end_its_whole_group_is_ended(
    tmp_path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """Also who does not end when asked to, after the command itself has."""
    holders = Holders(tmp_path / "fifo")
    async with trio.open_nursery() as nursery:
        OnChange(["sh", "-c", HANGS, str(holders.path)], nursery).put(CHANGES[0])
        await holders.begin()
        if end == "time":
            mock_clock.jump(on_change.LONGEST)
        else:
            nursery.cancel_scope.cancel()
    holders.end()
    reasons = ["the command for a change of web took more than 10 s, and is ended"]
    assert caplog.messages == reasons * (end == "time")


async def test_what_it_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    """Or days of changes would fill the machine."""
    holders = Holders(tmp_path / "fifo")
    async with trio.open_nursery() as nursery:
        running = OnChange(["sh", "-c", LEAVES, str(holders.path)], nursery)
        running.put(CHANGES[0])
        await holders.begin()
    holders.end()
    assert running.failed == 0


async def test_more_changes_than_can_wait_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That is reported once when it begins, and how many in the end."""
    monkeypatch.setattr(on_change, "MOST_WAITING", 1)
    async with trio.open_nursery() as nursery:
        running = OnChange(["true"], nursery)
        for each in CHANGES:
            running.put(each)
    running.report()
    assert caplog.messages == [
        "no command is run for changes of web, where 1 wait already",
        "no command was run for 2 changes",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sh -c 'a b; c'", ["sh", "-c", "a b; c"]),
        ("sh $HOME *", ["sh", "$HOME", "*"]),
        ("sh 'a", "no closing quotation"),
        (" ", "is no command"),
        ("no-such-program x", "'no-such-program' is no program here"),
    ],
)
def test_a_command_is_split_and_nothing_in_it_is_replaced(
    text: str, words: list[str] | str
) -> None:
    """What is none is refused before anything is watched."""
    if isinstance(words, list):
        assert read_command(text) == words
    else:
        with pytest.raises(ValueError, match=words):
            read_command(text)
