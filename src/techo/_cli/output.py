"""Standard output: data for whoever reads it, and who may leave at any time."""

from __future__ import annotations

import logging
import os
import sys

_log = logging.getLogger("techo.server")


def open_missing_streams() -> None:
    """Stand in for standard streams that whoever started us has closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123  -- for good


def say(line: str) -> None:
    """Print a line at once. That nobody can read it is no reason to stop."""
    try:
        print(line, flush=True)
    except OSError as error:
        _log.warning("cannot write to standard output: %s", error.strerror)
        give_up()


def give_up() -> None:
    """Print nothing from now on, and drop what could not be printed."""
    # The interpreter flushes once more on its way out, and would complain.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
