"""The process of a load with --processes: it carries out its share, and reports as it goes."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final, NoReturn

import attrs
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
from techo._load.sharing import divide
from techo._nursery import open_bare_nursery
from techo._operate.processes import Channel
from techo._printable import printable

_START: Final = (
    "import sys; sys.path[:] = {path!r}; from techo._cli.load_process import main; main()"
)
"""The program of a process. Its modules are found where the parent found them, a zip file or
the present directory included."""


def command_line(
    arguments: Sequence[str], processes: int, number: int, channel: int
) -> list[str]:
    """Return how to start one process, from 0, of a load that was given these arguments."""
    program = [sys.executable, "-c", _START.format(path=sys.path)]
    return [*program, f"{number}/{processes}", str(channel), *arguments]


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
        trio.run(LoadProcess(options, plan, sock).run)
        code = 0
    except Exception as error:  # noqa: BLE001  -- a bug
        code = report_bug(error)
    sys.exit(code)


@attrs.define(eq=False)
class LoadProcess:
    """One share, and the channel by which the parent governs it."""

    options: argparse.Namespace
    plan: LoadPlan
    sock: socket.socket
    _channel: Channel = attrs.field(init=False)
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _agreed: trio.Event = attrs.field(factory=trio.Event)
    _begin: float | None = None
    """When all begin, in seconds of CLOCK_MONOTONIC; None for not at all."""
    _latest: LoadReport | None = None
    """What was not sent yet."""
    _reported: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        """Carry it out, unless the parent is gone."""
        self._channel = Channel.of(self.sock)
        try:
            await self._run()
        except ValueError as error:
            await self._channel.send({"failure": printable(str(error))})
        finally:
            self._channel.close()

    async def _run(self) -> None:
        options = self.options
        tls = client_context(options)
        packets = socket_options(options, self.plan.connections)
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._obey, nursery)
            nursery.start_soon(self._report)
            report = await carry_out(
                self.plan,
                options.endpoint,
                tls=tls,
                server_name=None if tls is None else options.tls_server_name,
                options=packets,
                watch=self._watch,
                stop=self._stop,
                agree=self._agree,
            )
            last = {"report": report.to_json(), "over": True, "spans": report.outage_spans}
            await self._channel.send(last)
            nursery.cancel_scope.cancel(reason="the load is over")

    async def _agree(self, reached: bool) -> float | None:  # noqa: FBT001  -- see `Agree`
        """Have all begin at the same moment."""
        await self._channel.send({"reached": reached})
        await self._agreed.wait()
        if self._begin is None:
            return None
        return trio.current_time() + self._begin - time.monotonic()

    def _watch(self, report: LoadReport) -> None:
        self._latest = report
        self._reported.set()

    async def _report(self) -> NoReturn:
        """Send each report; where that takes longer than it should, only the latest."""
        while True:
            await self._reported.wait()
            self._reported = trio.Event()
            if self._latest is not None:
                await self._channel.send({"report": self._latest.to_json(), "over": False})

    async def _obey(self, nursery: trio.Nursery) -> None:
        """Do what the parent says; end at once if it is gone."""
        while (message := await self._channel.receive()) is not None:
            if message["do"] == "begin":
                self._begin = message["at"]
                self._agreed.set()
            else:
                self._stop.set()
        nursery.cancel_scope.cancel(reason="the parent is gone")
