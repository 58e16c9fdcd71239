"""Line editing: lines typed at a terminal, with history, which other events need not wait for.

The library that edits lines takes the terminal over for as long as it shows its prompt: keys
come one by one and are not echoed. It reads in a thread, which is left behind when something
else ends the command, and whoever leaves it puts the terminal back as it was.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Final

import attrs

_NUMBERS: Final = (0, 1)
"""Standard input and output, which it needs both: it shows what is typed on the latter."""


@attrs.define(eq=False)
class LineEditor:
    """Reads lines from the terminal; earlier ones come back with the arrow keys."""

    asking: bool = False
    """Whether a prompt is shown, at which the cursor stands."""

    def read(self, prompt: str) -> bytes:
        """Read a line with its end; nothing means the end of the input. Blocks.

        Raises:
            OSError: the terminal cannot be read.
        """
        self.asking = True
        try:
            line = input(prompt)
        except EOFError:
            print(flush=True)  # the line that was ended by Ctrl-D
            return b""
        finally:
            self.asking = False
        return line.encode(sys.stdin.encoding, sys.stdin.errors or "strict") + b"\n"


@contextlib.contextmanager
def line_editor() -> Iterator[LineEditor | None]:
    """Yield what reads lines for the length of a block; None where there is none to edit.

    After it, the terminal is as it was before.
    """
    if sys.stdin is None or not all(map(os.isatty, _NUMBERS)):
        yield None
        return
    try:
        import readline
        import termios
    except ImportError:  # such as on Windows
        yield None
        return
    # Pasted lines are lines as well, and not one with line ends in it.
    readline.parse_and_bind("set enable-bracketed-paste off")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    before = termios.tcgetattr(_NUMBERS[0])
    editor = LineEditor()
    try:
        yield editor
    finally:
        with contextlib.suppress(OSError, termios.error):  # it may be gone
            # In the background this would stop us, and the terminal is not ours to set.
            if os.tcgetpgrp(_NUMBERS[0]) == os.getpgrp():
                termios.tcsetattr(_NUMBERS[0], termios.TCSANOW, before)
