"""The worker: a process that serves for a server with --workers, and does as it is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import attrs
import trio

import techo
from techo._cli import logs, output, process
from techo._cli.bugs import report_bug
from techo._cli.fault_file import REREAD
from techo._cli.metrics import Pages, pages_of
from techo._cli.parsing import parse
from techo._cli.serve import COMMAND
from techo._cli.service import faults_of, make_service
from techo._nursery import open_bare_nursery
from techo._operate.counting import Counters, Durations
from techo._operate.processes import Channel, program
from techo._operate.workers import DIVIDED, share
from techo._printable import printable
from techo.endpoint import Endpoint

_PERIOD: Final = 1.0
"""Seconds between two reports: so much is lost of what one counts that is killed."""


def command_line(
    arguments: Sequence[str],
    workers: int,
    number: int,
    endpoints: Sequence[Endpoint],
    channel: int,
) -> list[str]:
    """Return how to start a worker of a server that was given these arguments."""
    places = " ".join(map(str, endpoints))
    return [*program(__name__), f"{number}/{workers}", str(channel), places, *arguments]


def main() -> NoReturn:
    """Run the worker that this process was started for, as `command_line` says."""
    # All signals are for the parent, which says what to do. A service manager sends them to
    # every process (KillMode of systemd.kill(5)), and the parent may want to wait with that.
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    process.open_missing_streams()
    output.survive_any_encoding()
    which, channel, places, *arguments = sys.argv[1:]
    number, workers = map(int, which.split("/"))
    options = parse(COMMAND, arguments, os.environ)
    for reread in REREAD if options.fault_file else ():
        signal.signal(reread, signal.SIG_IGN)
    log = logs.configure(
        quiet=options.quiet,
        verbose=options.verbose,
        log_format=options.log_format,
        worker=number + 1,
    )
    try:
        divide(options, number, workers)
        sock = socket.socket(fileno=int(channel))
        sock.set_inheritable(False)
        endpoints = [Endpoint.parse(each) for each in places.split()]
        trio.run(_Worker(options, endpoints, sock).run)
        code = 0
    except Exception as error:  # noqa: BLE001  -- a bug
        code = report_bug(error)
    finally:
        log.close()
    sys.exit(code)


def divide(options: Any, number: int, workers: int) -> None:
    """Replace the limits of all workers by the share of one.

    Raises:
        ValueError: there are not enough for each.
    """
    for name in DIVIDED:
        total = getattr(options, name)
        if total is None:
            continue
        if total < workers:
            flag = "--" + name.replace("_", "-")
            raise ValueError(
                f"{flag} {total} cannot be divided among {workers} workers: give {workers} or "
                "more"
            )
        setattr(options, name, share(total, number, workers))


@attrs.define(eq=False)
class _Worker:
    """A service, and the channel by which the parent governs it."""

    options: Any
    endpoints: list[Endpoint]
    sock: socket.socket
    _pages: Pages | None = attrs.field(init=False)
    _service: techo.EchoService = attrs.field(init=False)
    _channel: Channel = attrs.field(init=False)

    async def run(self) -> None:
        """Serve until told to end, or until the parent is gone."""
        self._channel = Channel.of(self.sock)
        self._pages = pages_of(self.options)
        try:
            await self._run()
        finally:
            self._channel.close()

    async def _run(self) -> None:
        try:
            self._service = make_service(self.options, self.endpoints, self._pages)
            async with open_bare_nursery() as nursery:
                await nursery.start(self._service.serve, *self.endpoints)
                await self._channel.send({"ready": True, **self._report(0)})
                nursery.start_soon(self._report_again)
                nursery.start_soon(self._obey, nursery)
        except (ValueError, OSError) as error:
            await self._channel.send({"failure": printable(str(error))})
        else:
            await self._channel.send(self._report(0))

    async def _obey(self, nursery: trio.Nursery) -> None:
        """Do what the parent says; drain if it is gone."""
        drained = False
        while (message := await self._channel.receive()) is not None:
            if message["do"] == "report":
                await self._channel.send(self._report(message["number"]))
            elif message["do"] == "faults":
                faults_of(self.options).read_again(lambda all_: self._service.set_faults(*all_))
            elif message["do"] == "leave":
                self._service.leave()
            elif message["do"] == "stop":
                nursery.cancel_scope.cancel(reason="told to stop")
            elif not drained:
                drained = True
                nursery.start_soon(self._drain, nursery)
        await self._drain(nursery)

    async def _drain(self, nursery: trio.Nursery) -> None:
        await self._service.drain()
        nursery.cancel_scope.cancel(reason="drained")

    async def _report_again(self) -> NoReturn:
        while True:
            await trio.sleep(_PERIOD)
            await self._channel.send(self._report(0))

    def _report(self, number: int) -> dict[str, Any]:
        durations = None if self._pages is None else self._pages.counting.durations
        counters = Counters(self._service.statistics(), durations or Durations())
        return {"report": attrs.asdict(counters), "answers": number}
