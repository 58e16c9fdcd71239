"""techo ping on a terminal: the Enter key, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator

import attrs

from helpers import PATIENCE, command, serving


@attrs.define
class Terminal:
    """A program, and the other side of its terminal."""

    popen: subprocess.Popen[bytes]
    master: int
    seen: str = ""

    def read_until(self, text: str) -> None:
        """Take in what is shown until there is `text` in it, behind what was read before."""
        found, end = "", time.monotonic() + PATIENCE
        while text not in found:
            assert time.monotonic() < end, found
            assert select.select([self.master], [], [], PATIENCE)[0]
            found += os.read(self.master, 65536).decode()
        self.seen += found

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)


@contextlib.contextmanager
def on_a_terminal(*arguments: str) -> Iterator[Terminal]:
    """Run a techo command in front of a terminal of its own for a block."""
    master, slave = pty.openpty()
    # A session of its own and the terminal as its own, as a login shell has it: setsid(1) -c.
    popen = subprocess.Popen(
        ["setsid", "-c", *command(*arguments)], stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    with popen:
        try:
            yield Terminal(popen, master)
        finally:
            if popen.poll() is None:
                popen.kill()
            os.close(master)


def test_enter_asks_for_the_statistics_so_far() -> None:
    """As often as it is pressed; ping goes on."""
    with (
        serving() as process,
        on_a_terminal("ping", "-i", "0.01", str(process.port)) as terminal,
    ):
        terminal.read_until("seq=1")
        for _ in range(3):
            terminal.type(b"\n")
            terminal.read_until(" jitter ")
        assert "--- " not in terminal.seen


def test_ctrl_c_ends_it_with_the_summary() -> None:
    """And it dies by SIGINT."""
    with (
        serving() as process,
        on_a_terminal("ping", "-i", "0.01", str(process.port)) as terminal,
    ):
        terminal.read_until("seq=3")
        terminal.type(b"\x03")
        terminal.read_until("connect ")
        assert terminal.popen.wait(PATIENCE) == -signal.SIGINT
    assert "--- tcp://" in terminal.seen


def test_ctrl_backslash_asks_for_the_statistics_too() -> None:
    """It is SIGQUIT."""
    with (
        serving() as process,
        on_a_terminal("ping", "-i", "0.01", str(process.port)) as terminal,
    ):
        terminal.read_until("seq=1")
        terminal.type(b"\x1c")
        terminal.read_until(" jitter ")
        assert terminal.popen.poll() is None
