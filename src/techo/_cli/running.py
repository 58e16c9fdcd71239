"""Running: a service until a signal ends it, as serve and proxy do it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs

import techo
from techo._cli import logs, systemd
from techo._cli.backlog import Backlog
from techo._cli.errors import cannot_listen, fail, refuse
from techo._cli.fault_file import REREAD
from techo._cli.metrics import Pages
from techo._cli.process import has_terminal, in_foreground
from techo._cli.signals import held, release, stopping
from techo._printable import printable
from techo._schema import headed
from techo.endpoint import Endpoint

if TYPE_CHECKING:
    import trio

    from techo._operate.workers import Workers

_log = logging.getLogger("techo.server")

# Windows has none.
_REPORT: Final = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))


def missing_lines(count: int) -> str:
    """Return what stands for lines of the output that nobody read in time."""
    return json.dumps(headed("dropped", lines=count))


def _output() -> Backlog:
    """Return what prints to standard output, until that fails for the first time."""

    def fail(error: OSError) -> None:
        if not failures:
            _log.warning("cannot write to standard output: %s", error.strerror)
        failures.append(error)

    failures: list[OSError] = []
    return Backlog(sys.stdout, missing_lines, fail)


def object_of(statistics: techo.Statistics) -> dict[str, Any]:
    """Return a snapshot as an object for machines."""
    return headed("statistics", **logs.with_units(attrs.asdict(statistics)))


class Service(Protocol):
    """What can be run: an echo service, workers in its place, or a proxy."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What it is listening on now."""

    def statistics(self) -> techo.Statistics:
        """Return a snapshot of the counters."""

    async def serve(
        self, *places: Endpoint, task_status: trio.TaskStatus[tuple[Endpoint, ...]]
    ) -> None:
        """Serve until drained or cancelled."""

    def leave(self) -> None:
        """Let clients go elsewhere one by one."""

    async def drain(self) -> None:
        """Stop accepting, and return when the last connection is over."""


def logged(
    options: argparse.Namespace,
    do: Callable[[argparse.Namespace, Callable[[str], None]], int],
) -> int:
    """Do what the options say with the log that they want; return the exit code.

    It is also given what reports to who sits at a terminal.
    """
    log = logs.configure(
        quiet=options.quiet, verbose=options.verbose, log_format=options.log_format
    )
    try:
        return do(options, log.tell)
    finally:
        log.close()


def run(
    service: Service,
    endpoints: Sequence[Endpoint],
    tell: Callable[[str], None],
    **how: Any,
) -> int:
    """Run a service until a signal ends it; return the exit code, as `Server.run`.

    `how` has the fields of `Server` that are not as usual.
    """
    import trio

    notify = systemd.notifier(os.environ)
    watchdog = systemd.watchdog_period(os.environ)
    server = Server(service, notify, tell, watchdog=watchdog, **how)
    try:
        return trio.run(server.run, endpoints)
    finally:
        server.output.close()


@attrs.define(eq=False)
class Server:
    """One service, and the signals that end it."""

    service: Service
    notify: Callable[[str], None]
    """Reports our state to systemd."""
    tell: Callable[[str], None]
    """Reports it to who sits at a terminal."""
    pages: Pages | None = None
    lame_duck: float = 0.0
    """Seconds of accepting after the first signal to stop."""
    workers: Workers | None = None
    """The same as `service`, where there are some."""
    watchdog: float | None = None
    reread: Callable[[], None] | None = None
    """Reads the files of faults again, if there are some."""
    output: Backlog = attrs.field(factory=_output)
    _reloads: bool = attrs.field(init=False)
    """Whether SIGHUP is no hang-up, and replaces the workers."""
    _stop: int = 0
    """The first signal that asked for the end."""
    _starting: trio.CancelScope = attrs.field(init=False)
    _stopping: trio.Event = attrs.field(init=False)

    @_reloads.default
    def _find_whether_it_reloads(self) -> bool:
        return self.workers is not None and not has_terminal()

    async def run(self, endpoints: Sequence[Endpoint]) -> int:
        """Serve until a signal ends it; return the exit code, minus its number for SIGINT."""
        import trio

        from techo._log import draining
        from techo._nursery import open_bare_nursery

        self._starting = trio.CancelScope()
        self._stopping = trio.Event() if self.workers is None else self.workers.stopping
        heeded = (*stopping(), *_REPORT, *(REREAD if self.reread else ()))
        # Late ones don't change the exit code of a server that has drained.
        with held(heeded), trio.open_signal_receiver(*heeded) as signals:
            release(heeded)
            async with open_bare_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery)
                try:
                    with self._starting:
                        await nursery.start(self._serve, *endpoints)
                except OSError as error:
                    nursery.cancel_scope.cancel(reason="not listening")
                    return cannot_listen(error)
                except ValueError as error:  # such as a fault that cannot happen there
                    nursery.cancel_scope.cancel(reason="not listening")
                    return refuse(str(error))
                if self.service.endpoints:  # or it was stopped before it was listening
                    await self._report_listening(nursery)
                await self._stopping.wait()
                self.notify("STOPPING=1")
                if self.lame_duck and self._stop:
                    await self._leave()
                if self.pages is not None:
                    self.pages.report("draining")
                if self._stop:
                    _log.debug("draining after %s", signal.Signals(self._stop).name)
                # Unless the log has it, or nothing was ever listening.
                if not _log.isEnabledFor(logging.INFO) and self.service.endpoints:
                    self.tell(draining(self.service.statistics().active))
                await self.service.drain()
                nursery.cancel_scope.cancel(reason="drained")
        return self._code()

    def _code(self) -> int:
        if self.workers is not None and self.workers.failure:
            return fail(self.workers.failure)
        if self.service.statistics().outcomes[techo.Outcome.ABORTED]:
            return 1
        return -self._stop if self._stop == signal.SIGINT else 0

    async def _leave(self) -> None:
        """Go on accepting for a while, but let everybody know to go elsewhere."""
        import trio

        if self.pages is not None:
            self.pages.report("leaving")
        self.service.leave()
        _log.info("leaving: accepting for another %g s", self.lame_duck)
        await trio.sleep(self.lame_duck)  # as long as was asked for

    async def _report_listening(self, nursery: trio.Nursery) -> None:
        for endpoint in self.service.endpoints:
            self.output.write(printable(f"listening on {endpoint}"))
        if self.pages is not None:
            # What has pages is one of these.
            served = cast("techo.EchoService | Workers", self.service)
            await self.pages.start(served, nursery)
        self.notify("READY=1")
        nursery.start_soon(systemd.keep_watchdog, self.notify, self.watchdog, self._answers)
        if in_foreground(sys.stderr):
            self.tell("Ctrl-C stops it")

    async def _serve(  # noqa: ASYNC128  -- the service does
        self, *endpoints: Endpoint, task_status: trio.TaskStatus[tuple[Endpoint, ...]]
    ) -> None:
        """Serve until that ends, by itself too."""
        await self.service.serve(*endpoints, task_status=task_status)
        self._stopping.set()

    async def _report(self) -> None:
        if self.workers is not None:
            await self.workers.refresh()
        self.output.write(json.dumps(object_of(self.service.statistics())))

    async def _reload(self) -> None:
        assert self.workers is not None  # noqa: S101  -- or there is nothing to replace
        self.notify(systemd.reloading())
        if await self.workers.reload():
            self.notify("READY=1")

    async def _answers(self) -> bool:
        return self.workers is None or await self.workers.refresh()

    async def _heed(self, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        """Print statistics when asked; drain at the first signal to stop, end at the second."""
        async for number in signals:
            if number in _REPORT:
                nursery.start_soon(self._report)
            elif number in REREAD and self.reread is not None:
                self.reread()
            elif self._reloads and number == signal.SIGHUP:
                if self.service.endpoints:
                    nursery.start_soon(self._reload)
            elif self._stop:
                nursery.cancel_scope.cancel(reason="a second signal")
            else:
                self._stop = number
                self._starting.cancel(reason="stopped before it was listening")
                self._stopping.set()
