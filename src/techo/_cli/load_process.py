"""The process of a load with --processes: it carries out its share, and reports as it goes."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import trio

from techo._cli import output, process
from techo._cli.bugs import report_bug
from techo._cli.load import COMMAND
from techo._cli.load_plan import plan_of, settle
from techo._cli.packets import socket_options
from techo._cli.parsing import parse
from techo._cli.tls import client_context
from techo._load.load import carry_out
from techo._load.plan import LoadPlan
from techo._load.report import LoadReport
from techo._load.share_process import ShareProcess
from techo._load.sharing import divide
from techo._operate.processes import program


def command_line(
    arguments: Sequence[str], processes: int, number: int, channel: int
) -> list[str]:
    """Return how to start one process, from 0, of a load that was given these arguments."""
    return [*program(__name__), f"{number}/{processes}", str(channel), *arguments]


def main() -> NoReturn:
    """Carry out the share that this process was started for, as `command_line` says."""
    # All signals are for the parent, which says what to do.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    process.open_missing_streams()
    output.survive_any_encoding()
    which, channel, *arguments = sys.argv[1:]
    number, processes = map(int, which.split("/"))
    try:
        options = parse(COMMAND, arguments, os.environ)
        settle(options)
        plan = divide(plan_of(options), processes)[number]
        sock = socket.socket(fileno=int(channel))
        sock.set_inheritable(False)
        trio.run(share_process(options, plan, sock).run)
        code = 0
    except Exception as error:  # noqa: BLE001  -- a bug
        code = report_bug(error)
    sys.exit(code)


def share_process(
    options: argparse.Namespace, plan: LoadPlan, sock: socket.socket
) -> ShareProcess:
    """Return the process of a share of what the options ask for."""

    async def load(**governing: Any) -> LoadReport:
        tls = client_context(options)
        return await carry_out(
            plan,
            options.endpoint,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
            options=socket_options(options, plan.connections),
            **governing,
        )

    return ShareProcess(load, sock)
