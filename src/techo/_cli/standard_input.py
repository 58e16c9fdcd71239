"""Standard input of talk: lines from a terminal, or what comes out of a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Final

import attrs

from techo._cli.errors import fail, refuse
from techo._cli.line_editing import LineEditor

_PROMPT: Final = "> "
_NUMBER: Final = 0
"""Standard input's descriptor."""
_READ_SIZE: Final = 2**16
"""Bytes; what a pipe holds at the most by default (pipe(7))."""


@attrs.define(eq=False)
class StandardInput:
    """What to send, and how reading it went."""

    longest: int | None
    """Bytes that fit into one message, where a line is one; None where there are none."""
    editor: LineEditor | None
    """What reads lines at a terminal, if that can be had."""
    terminal: bool = attrs.field(factory=lambda: os.isatty(_NUMBER))
    """Whether to prompt; a line is read without its end there, and an empty one is the end."""
    prompting: bool = False
    """Whether a prompt is shown that is not the editor's."""
    failure: int = 0
    """Once it has ended: the exit code if that was an error, which was reported."""
    _ahead: bytearray = attrs.field(factory=bytearray)
    """What was read after a line."""
    _ended: bool = False

    async def read(self) -> bytes:
        """Read what there is or, where a line is a message, one line; nothing means the end."""
        if self.terminal:
            piece = (await self._read()).rstrip(b"\r\n")  # a line, whatever it is sent over
        elif self.longest is None:
            piece = await self._read()
        else:
            piece = await self._read_line(self.longest)
        if self.longest is not None and len(piece) > self.longest:
            self.failure = refuse(
                f"a line has more than the {self.longest} bytes that fit into one message "
                "here; send shorter lines, or talk over tcp or unix"
            )
            return b""
        return piece

    async def _read_line(self, longest: int) -> bytes:
        """Read one line with its end, which the last may lack; of a too long one, too much."""
        searched = 0
        while not (end := self._ahead.find(b"\n", searched) + 1) and not self._ended:
            searched = len(self._ahead)
            if searched > longest:
                break
            chunk = await self._read()
            self._ended = not chunk
            self._ahead += chunk
        end = end or len(self._ahead)
        line = bytes(self._ahead[:end])
        del self._ahead[:end]
        return line

    async def _read(self) -> bytes:
        """Read what there is; nothing means the end."""
        if sys.stdin is None:  # closed by the parent process; the number may be in use again
            return b""
        if self.editor is not None:
            return await self._read_in_thread(self.editor.read, _PROMPT)
        if self.terminal:
            with contextlib.suppress(OSError):  # a terminal may be gone
                sys.stderr.write(_PROMPT)
                sys.stderr.flush()
            self.prompting = True
        found = await self._read_in_thread(os.read, _NUMBER, _READ_SIZE)
        self.prompting = False
        return found

    async def _read_in_thread(self, read: Callable[..., bytes], *arguments: object) -> bytes:
        import trio

        try:
            # A thread, because regular files can't be waited for. Left behind when the server
            # closes first: a read cannot be cancelled, and it holds no lock of Python's.
            return await trio.to_thread.run_sync(read, *arguments, abandon_on_cancel=True)
        except OSError as error:
            self.failure = fail(f"cannot read standard input: {error.strerror}")
            return b""
