"""techo ping on a terminal: the Enter key, and Ctrl-C."""

from __future__ import annotations

import shlex
import signal

from helpers import PATIENCE, command
from terminals import any_on_a_terminal, on_a_terminal


def test_enter_asks_for_the_statistics_so_far(port: str) -> None:
    """Each time that it is pressed they are printed, and ping goes on."""
    with (
        on_a_terminal("ping", "-i", "0.01", port) as terminal,
    ):
        terminal.read_until("seq=1")
        for keys in (b"\n", b"\n", b"\x04\n"):  # Ctrl-D is no end of the Enter key
            terminal.type(keys)
            terminal.read_until("round trips in ms")
        assert "--- " not in terminal.seen


def test_what_is_typed_ahead_is_left_to_the_shell(port: str) -> None:
    """The line that was typed or pasted meanwhile is still there when ping has ended."""
    ping = shlex.join(command("ping", "-i", "0.01", "-n", "50", port))
    script = f"{ping}; read -r line; echo the shell has read: $line"
    with any_on_a_terminal("sh", "-c", script) as terminal:
        terminal.read_until("seq=1")
        terminal.type(b"techo load\n")
        terminal.read_until("the shell has read: techo load")
        assert terminal.popen.wait(PATIENCE) == 0
    assert terminal.seen.count("round trips in ms") == 1


def test_ctrl_c_ends_it_with_the_summary(port: str) -> None:
    """It prints the summary and dies by SIGINT."""
    with (
        on_a_terminal("ping", "-i", "0.01", port) as terminal,
    ):
        terminal.read_until("seq=3")
        terminal.type(b"\x03")
        terminal.read_until("connect ")
        assert terminal.popen.wait(PATIENCE) == -signal.SIGINT
    assert "--- tcp://" in terminal.seen


def test_ctrl_backslash_asks_for_the_statistics_too(port: str) -> None:
    """The terminal turns it into SIGQUIT."""
    with (
        on_a_terminal("ping", "-i", "0.01", port) as terminal,
    ):
        terminal.read_until("seq=1")
        terminal.type(b"\x1c")
        terminal.read_until("round trips in ms")
        assert terminal.popen.poll() is None
