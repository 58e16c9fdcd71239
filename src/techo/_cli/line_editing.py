"""Line editing: lines typed at a terminal, with history, which other events need not wait for.

The library that edits lines takes the terminal over for as long as it shows its prompt: keys
come one by one and are not echoed. It reads in a thread, which is left behind when something
else ends the command, and whoever leaves it puts the terminal back as it was.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, Final

import attrs

_NUMBERS: Final = (0, 1)
"""Standard input and output, which it needs both: it shows what is typed on the latter."""


@attrs.define(eq=False)
class LineEditor:
    """Reads lines from the terminal; earlier ones come back with the arrow keys."""

    _terminal: _Terminal
    asking: bool = False
    """Whether a prompt is shown, at which the cursor stands."""
    _prompt: str = ""

    def read(self, prompt: str) -> bytes:
        """Read a line with its end; nothing means the end of the input. Blocks.

        Raises:
            OSError: the terminal cannot be read.
        """
        self._prompt, self.asking = prompt, True
        self._terminal.echo(on=True)  # or the library would not show what is typed
        try:
            line = input(prompt)
        except EOFError:
            print(flush=True)  # the line that was ended by Ctrl-D
            return b""
        finally:
            self.asking = False
            self._terminal.echo(on=False)
        return line.encode(sys.stdin.encoding, sys.stdin.errors or "strict") + b"\n"

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let a block print whole lines; a prompt comes back below, with what was typed."""
        asking = self.asking
        if asking:
            print(flush=True)
        try:
            yield
        finally:
            if asking:
                self._show_again()

    def suspend(self) -> None:
        """Stop this process, as Ctrl-Z asks; when it goes on, all is as it was."""
        with self._terminal.lent():
            handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, handler)
        if self.asking:
            self._show_again()

    def _show_again(self) -> None:
        """Show the prompt and what was typed; the library takes it to be there already."""
        import readline

        if self.asking:
            print(self._prompt + readline.get_line_buffer(), end="", flush=True)


@attrs.frozen(eq=False)
class _Terminal:
    """The terminal's settings.

    Lines are not collected by the terminal, even between two prompts: of Ctrl-D nothing would
    be left for the next prompt then.
    """

    before: list[Any]
    """As they were."""

    def echo(self, *, on: bool) -> None:
        """From now on show what is typed, or keep it for the next prompt."""
        import termios

        settings = self.before.copy()
        settings[3] &= ~(termios.ICANON | termios.ECHO)
        settings[3] |= self.before[3] & termios.ECHO if on else 0
        with contextlib.suppress(termios.error):  # it may be gone
            termios.tcsetattr(_NUMBERS[0], termios.TCSANOW, settings)

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let others have it as it was, for the length of a block."""
        import termios

        now = termios.tcgetattr(_NUMBERS[0])
        termios.tcsetattr(_NUMBERS[0], termios.TCSANOW, self.before)
        yield
        termios.tcsetattr(_NUMBERS[0], termios.TCSANOW, now)


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
    terminal = _Terminal(before)
    try:
        terminal.echo(on=False)
        yield LineEditor(terminal)
    finally:
        with contextlib.suppress(OSError, termios.error):  # it may be gone
            # In the background this would stop us, and the terminal is not ours to set.
            if os.tcgetpgrp(_NUMBERS[0]) == os.getpgrp():
                termios.tcsetattr(_NUMBERS[0], termios.TCSANOW, before)
