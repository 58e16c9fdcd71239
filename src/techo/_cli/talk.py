"""The talk command: the tutorial's client, on a terminal or in a pipe."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Final

import attrs
import trio

from techo._cli.complaints import complain
from techo._client.client import RECEIVE_SIZE
from techo._client.comparison import Comparison, EchoMismatch
from techo._client.connecting import connect
from techo._nursery import open_bare_nursery
from techo.endpoint import Endpoint

_PROMPT: Final = "> "
_STANDARD_INPUT: Final = 0


def talk(options: argparse.Namespace) -> int:
    """Talk until the input ends and everything owed was printed; give the exit code."""
    return trio.run(_talk, options.endpoint)


async def _talk(endpoint: Endpoint) -> int:
    try:
        stream = await connect(endpoint)
    except ValueError as error:
        sys.stderr.write(f"techo: {error}\n")
        return 2
    except OSError as error:
        return complain(f"cannot connect to {endpoint}", error)
    async with stream:
        talker = _Talker(stream, terminal=os.isatty(_STANDARD_INPUT))
        await talker.run()
    if talker.cut_short:
        sys.stderr.write(f"techo: {endpoint} ended the connection {talker.cut_short}\n")
    return 1 if talker.cut_short or talker.unreadable else 0


@attrs.define(eq=False)
class _Talker:
    """One conversation: standard input to the server, its replies to standard output."""

    stream: trio.SocketStream
    terminal: bool
    """Whether to prompt, and to read on only when the last line was answered."""
    cut_short: str = ""
    """Once it is over: what was left undone, or nothing."""
    unreadable: bool = False
    """Whether the input ended in an error."""
    _finished: bool = False
    _comparison: Comparison | None = attrs.field(factory=Comparison)
    """None once the server has proved to be no echo: then it is just printed."""
    _answered: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._send_input)
            await self._print_replies()
            nursery.cancel_scope.cancel(reason="the server has closed")
        if not self._finished:
            self.cut_short = "before the input ended"
        elif self._comparison is not None and not self._comparison.complete:
            self.cut_short = f"and owes {self._comparison.owed} bytes"

    async def _send_input(self) -> None:
        while chunk := await self._read():
            self._answered = trio.Event()
            if self._comparison is not None:
                self._comparison.expect(chunk)
            # If the server is gone, the receiving side tells how far it came.
            with contextlib.suppress(trio.BrokenResourceError):
                await self.stream.send_all(chunk)
            if self.terminal:
                await self._answered.wait()
        self._finished = True
        with contextlib.suppress(trio.BrokenResourceError):
            await self.stream.send_eof()

    async def _read(self) -> bytes:
        """Read what there is, on a terminal one line without its end; nothing means the end."""
        if sys.stdin is None:  # closed by whoever started us; the number may be in use again
            return b""
        if self.terminal:
            sys.stderr.write(_PROMPT)
            sys.stderr.flush()
        try:
            # A thread, because regular files can't be waited for. Left behind when the server
            # closes first: a read cannot be cancelled, and it holds no lock of Python's.
            chunk = await trio.to_thread.run_sync(
                os.read, _STANDARD_INPUT, RECEIVE_SIZE, abandon_on_cancel=True
            )
        except OSError as error:
            sys.stderr.write(f"techo: cannot read standard input: {error.strerror}\n")
            self.unreadable = True
            return b""
        return chunk.rstrip(b"\r\n") if self.terminal else chunk

    async def _print_replies(self) -> None:
        # A broken connection is told by what is missing, as an early end is.
        with contextlib.suppress(trio.BrokenResourceError):
            while chunk := await self.stream.receive_some(RECEIVE_SIZE):
                answered = self._answers(chunk)
                if answered and self.terminal:
                    chunk += b"\n"
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                if answered:
                    self._answered.set()

    def _answers(self, chunk: bytes | bytearray) -> bool:
        """Whether everything sent is answered with this chunk."""
        if self._comparison is None:
            return True
        try:
            self._comparison.feed(chunk)
        except EchoMismatch:
            self._comparison = None
            return True
        self._comparison.forget()
        return self._comparison.complete
