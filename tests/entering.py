"""Commands entered as a process enters them, but in the tests' own, which spares its start."""

from __future__ import annotations

import contextlib
import io
import sys
import unittest.mock

import pytest

from helpers import process_kept
from techo._cli import entry


def entered(stdout: int, *arguments: str, encoding: str | None = None) -> tuple[int, str]:
    """Run a command with a descriptor as standard output, but in this process.

    It is entered as a process enters it; return what it exits with and says on standard error.
    """
    err = io.StringIO()
    with (
        process_kept(),
        open(stdout, "w", encoding=encoding) as out,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        unittest.mock.patch.object(sys, "argv", ["techo", *arguments]),
        pytest.raises(SystemExit) as left,
    ):
        entry()
    return int(left.value.code or 0), err.getvalue()
