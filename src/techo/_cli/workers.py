"""Workers: the option of serve that runs it in several processes, and what it makes."""

from __future__ import annotations

import argparse
import functools
import os
import re
import sys
from typing import TYPE_CHECKING, Final

from techo._cli.options import Group, option
from techo._cli.readers import Form
from techo._printable import quoted

if TYPE_CHECKING:
    from techo._operate.workers import Workers
    from techo._server.limits import Limits

_MOST: Final = 1000
"""Processes, which is more than there are cores anywhere."""


def read_workers(text: str) -> int | None:
    """Read how many workers there are to be; None without any.

    Raises:
        ValueError: it has the text, and what would be right.
    """
    if text == "off":
        return None
    if text == "auto":
        return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= _MOST:
        raise ValueError(f"{quoted(text)} is not a number from 1 to {_MOST:,}, auto or off")
    return int(text)


WORKERS: Final = Group(
    "Processes",
    [
        option(
            "--workers",
            Form("N", read_workers, choices=lambda: ("auto", "off")),
            "serve in this many processes, as many as there are cores for auto; one that dies "
            "is started again. What holds for all connections is divided among them, as is "
            "--max-connections; what holds for one address holds in each",
            shown="off",
        )
    ],
)


def workers_of(options: argparse.Namespace, limits: Limits) -> Workers:
    """Return the workers that the options ask for.

    Raises:
        ValueError: there can be none here, or not so many.
    """
    if sys.platform != "linux":
        raise ValueError("--workers is for Linux, whose kernel divides connections among them")
    from techo._cli.worker import command_line, divide
    from techo._operate.workers import Workers

    count: int = options.workers
    divide(argparse.Namespace(**vars(options)), 0, count)
    command = functools.partial(command_line, options.arguments, count)
    return Workers(count, command, limits, options.unix_mode)
