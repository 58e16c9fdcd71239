"""techo load on a terminal: the bar, and Ctrl-C."""

from __future__ import annotations

import re
import signal

import pytest

from helpers import PATIENCE, serving, wait_until
from terminals import on_a_terminal


def test_a_bar_shows_what_was_found_so_far(port: str) -> None:
    """It shows rate, p99 and errors until the summary takes its place."""
    with (
        on_a_terminal("load", "-r", "1000", "-d", "60", port) as terminal,
    ):
        for _ in range(4):  # until there are enough trips for a p99
            terminal.read_until(" ms, 0 errors")
        terminal.type(b"\x03")
        terminal.read_until("response time, ms")
        assert terminal.popen.wait(PATIENCE) == -signal.SIGINT
    assert "━" in terminal.seen
    assert re.search(r"[\d,]+/s, p99 [\d.,]+ ms, 0 errors", terminal.seen)
    assert terminal.seen.index("round trips in") > terminal.seen.rindex(" errors")
    # Behind the bar it could begin a line, and the bar would stay.
    assert "\r^C" in terminal.seen


def test_a_bar_leaves_out_a_percentile_that_is_not_known(port: str) -> None:
    """Of so few trips there is no p99."""
    with (
        on_a_terminal("load", "-r", "20", "-d", "60", port) as terminal,
    ):
        terminal.read_until("/s, 0 errors")


def test_a_warm_up_is_told(port: str) -> None:
    """The bar says so until trips are counted."""
    arguments = ["load", "-r", "200", "--warm-up", "1", "-d", "1"]
    with on_a_terminal(*arguments, port) as terminal:
        terminal.read_until("warming up")
        terminal.read_until(" 0 errors")
        terminal.read_until("response time, ms")


def test_trips_have_a_bar_too(port: str) -> None:
    """The bar of a number of trips comes to its end."""
    with (
        on_a_terminal("load", "-r", "1000", "-n", "600", port) as terminal,
    ):
        terminal.read_until("600 round trips in")
    assert " errors" in terminal.seen


def test_ctrl_c_twice_waits_for_nobody() -> None:
    """The first waits for trips in flight, although the server halts; the second ends it."""
    with (
        serving() as process,
        on_a_terminal("load", "-W", "60", "-d", "60", str(process.port)) as terminal,
    ):
        wait_until(lambda: process.statistics()["sent_bytes"] > 0, "no trips")
        process.popen.send_signal(signal.SIGSTOP)
        try:
            for _ in range(5):  # the last of these is of a server that halts
                terminal.read_until(" errors")
            terminal.type(b"\x03")
            terminal.read_until("again to stop now")
            terminal.type(b"\x03")
            terminal.read_until(", 10 in flight")
            assert terminal.popen.wait(PATIENCE) == -signal.SIGINT
        finally:
            process.popen.send_signal(signal.SIGCONT)


def test_without_colour_there_is_none(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """NO_COLOR is respected (no-color.org); bold text may stay."""
    monkeypatch.setenv("NO_COLOR", "1")
    with (
        on_a_terminal("load", "-n", "300", "-r", "1000", port) as terminal,
    ):
        terminal.read_until("response time, ms")
        assert terminal.popen.wait(PATIENCE) == 0
    colours = re.findall(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])(?:;\d+)*m", terminal.seen)
    assert colours == []
