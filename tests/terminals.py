"""A techo command in front of a terminal, as a person sits there."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator

import attrs

from helpers import PATIENCE, command


@attrs.define
class Terminal:
    """A program, and the other side of its terminal."""

    popen: subprocess.Popen[bytes]
    master: int
    seen: str = ""

    def read_until(self, text: str) -> None:
        """Take in what is shown until there is `text` in it, behind what was read before."""
        found, end = b"", time.monotonic() + PATIENCE
        while text.encode() not in found:
            assert time.monotonic() < end, found
            assert select.select([self.master], [], [], PATIENCE)[0]
            found += os.read(self.master, 65536)
        self.seen += found.decode(errors="replace")  # it may end within a character

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)


@contextlib.contextmanager
def on_a_terminal(*arguments: str, setsid: str = "setsid") -> Iterator[Terminal]:
    """Run a techo command in front of a terminal of its own for a block."""
    with any_on_a_terminal(*command(*arguments), setsid=setsid) as terminal:
        yield terminal


@contextlib.contextmanager
def any_on_a_terminal(*words: str, setsid: str = "setsid") -> Iterator[Terminal]:
    """Run any program in front of a terminal of its own for a block."""
    master, slave = pty.openpty()
    # A session of its own and the terminal as its own, as a login shell has it: setsid(1) -c.
    popen = subprocess.Popen([setsid, "-c", *words], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    with popen:
        try:
            yield Terminal(popen, master)
        finally:
            if popen.poll() is None:
                popen.kill()
            os.close(master)
