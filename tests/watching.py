"""techo watch as a process without a terminal, whose lines are read one by one."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
from collections.abc import Iterator
from typing import Any

import attrs

from helpers import PATIENCE, command


@attrs.define
class Watching:
    """A watch without a terminal, whose lines are read one by one."""

    popen: subprocess.Popen[bytes]
    changes: list[dict[str, Any]] = attrs.field(factory=list)
    """Those that were read."""

    def read(self, number: int) -> str:
        """Return the next line of standard output (1) or error (2)."""
        file = (self.popen.stdout, self.popen.stderr)[number - 1]
        assert file is not None
        assert select.select([file], [], [], PATIENCE)[0]
        return file.readline().decode()

    def change(self) -> dict[str, Any]:
        """Return the next change, with --json."""
        found: dict[str, Any] = json.loads(self.read(1))
        self.changes.append(found)
        return found

    def news(self) -> tuple[str, str]:
        """Return which target is in which state next."""
        found = self.change()
        return found["target"], found["state"]

    def until(self, target: str, state: str) -> dict[str, Any]:
        """Wait until a target is in a state; return the change."""
        while True:
            found = self.change()
            if (found["target"], found["state"]) == (target, state):
                return found


@contextlib.contextmanager
def watching(*arguments: str, stdin: bytes = b"") -> Iterator[Watching]:
    """Run a watch in a session of its own for a block."""
    with subprocess.Popen(
        command("watch", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    ) as popen:
        assert popen.stdin is not None
        popen.stdin.write(stdin)
        popen.stdin.close()
        popen.stdin = None
        try:
            yield Watching(popen)
        finally:
            if popen.poll() is None:
                popen.kill()
