"""Processes: the option of load that divides it among several, and what it makes."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from techo._cli.options import option
from techo._cli.packets import socket_options
from techo._cli.readers import Form
from techo._cli.workers import read_workers

if TYPE_CHECKING:
    import trio

    from techo._load.plan import LoadPlan
    from techo._load.processes import LoadProcesses
    from techo._load.report import LoadReport

_AUTO: Final = "auto"


def _read_processes(text: str) -> int | str | None:
    return text if text == _AUTO else read_workers(text)


PROCESSES: Final = option(
    "--processes",
    Form("N", _read_processes, choices=lambda: (_AUTO, "off")),
    "divide the load among this many processes; for auto, as many as there are cores, or "
    "connections or trips if these are fewer. Connections, trips and the rate are divided; all "
    "begin at one moment",
    shown="off",
)


def count_for(wanted: int | str, plan: LoadPlan) -> int:
    """Return how many processes a plan takes: for auto, each has a connection, and a trip."""
    if isinstance(wanted, int):
        return wanted
    cores = read_workers(_AUTO) or 1
    return min(cores, plan.connections, cores if plan.trips is None else plan.trips)


def processes_of(
    options: argparse.Namespace,
    plan: LoadPlan,
    watch: Callable[[LoadReport], None],
    stop: trio.Event,
) -> LoadProcesses:
    """Return the processes that the options ask for.

    Raises:
        ValueError: there can be none here, or not so many.
    """
    if sys.platform == "win32":
        raise ValueError("--processes is not for Windows")
    from techo._cli.load_process import command_line
    from techo._load.processes import LoadProcesses

    socket_options(options, plan.connections)  # before each checks only its own share
    count = count_for(options.processes, plan)
    arguments, seeded = options.arguments, plan.seeded()
    if seeded.seed != plan.seed:  # or each would draw its own, and --seed could not repeat them
        plan, arguments = seeded, [f"--seed={seeded.seed}", *arguments]
    command = functools.partial(command_line, arguments, count)
    return LoadProcesses(str(options.endpoint), plan, count, command, watch, stop)
