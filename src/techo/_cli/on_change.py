"""On a change: a command that is given it, one at a time for each target, and not for ever."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from techo._log import warning
from techo._printable import quoted
from techo._probing.text import number_of
from techo._watch.events import Change

MOST_WAITING: Final = 100
"""Changes of one target that wait for its command to end; more are dropped."""

AT_ONCE: Final = 16
"""Commands that run at once, for all targets together."""

LONGEST: Final = 10.0
"""Seconds after which a command is ended, with all that it has started."""

_GRACE: Final = 1.0
"""Seconds between asking it to end and ending it, and until nobody waits for that."""


def read_command(text: str) -> list[str]:
    """Split a command as a shell would; nothing else is done that a shell does.

    Raises:
        ValueError: a quote is not closed, or there is no such program.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no command: {str(error).lower()}") from None
    if not words:
        raise ValueError("'' is no command")
    if shutil.which(words[0]) is None:
        raise ValueError(f"{quoted(words[0])} is no program here that can be run")
    return words


@attrs.define(eq=False)
class OnChange:
    """Runs the command in a nursery, for each change that it is given."""

    command: Sequence[str]
    nursery: trio.Nursery
    dropped: int = 0
    """Changes that nothing was run for, because too many waited."""
    failed: int = 0
    """Commands that could not be run, took too long, or did not end with status 0."""
    _waiting: dict[str, collections.deque[Change]] = attrs.field(factory=dict)
    """By target: what waits for the command that runs for it."""
    _room: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(AT_ONCE))

    def put(self, change: Change) -> None:
        """Have the command run for a change; never waits."""
        waiting = self._waiting.get(change.target)
        if waiting is None:
            self._waiting[change.target] = collections.deque([change])
            self.nursery.start_soon(self._run_all, change.target)
        elif len(waiting) < MOST_WAITING:
            waiting.append(change)
        else:
            self.dropped += 1
            if self.dropped == 1:
                text = "no command is run for changes of %s, where %d wait already"
                warning(text, change.target, MOST_WAITING)

    def report(self) -> None:
        """Report for how many changes none was run, if so, when it is all over."""
        if self.dropped:
            warning("no command was run for %s", number_of(self.dropped, "change"))

    async def _run_all(self, target: str) -> None:
        waiting = self._waiting[target]
        try:
            while waiting:
                async with self._room:
                    reason = await self._run(waiting.popleft())
                if reason:
                    self.failed += 1
                    warning("the command for a change of %s %s", target, reason)
        finally:
            self.dropped += len(waiting)
            del self._waiting[target]

    async def _run(self, change: Change) -> str:
        """Run it once; return what went wrong, or nothing."""
        try:
            process = await trio.lowlevel.open_process(
                list(self.command),
                stdin=subprocess.PIPE,
                # What it prints is for people: ours may be for machines.
                stdout=sys.stderr.fileno(),
                start_new_session=True,
            )
        except OSError as error:
            return f"could not be run: {(error.strerror or str(error)).lower()}"
        try:
            with trio.move_on_after(LONGEST):
                await _give(process, json.dumps(change.to_json()).encode() + b"\n")
                code = await process.wait()
                return "" if not code else f"ended with status {code}"
            return f"took more than {LONGEST:g} s, and is ended"
        finally:
            await _end(process)  # noqa: ASYNC102  -- shielded, and over in two seconds


async def _give(process: trio.Process, data: bytes) -> None:
    """Give a process its standard input, whether it reads that or not."""
    assert process.stdin is not None  # noqa: S101  -- it was asked for
    with contextlib.suppress(trio.BrokenResourceError):
        await process.stdin.send_all(data)
    await process.stdin.aclose()


async def _end(process: trio.Process) -> None:
    """End what there is of a process and its group, which it may have left behind."""
    with trio.CancelScope(shield=True):
        if process.stdin is not None:
            await trio.aclose_forcefully(process.stdin)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except OSError:
                return  # nobody is there any more, or it is another user's
            with trio.move_on_after(_GRACE):
                await process.wait()
