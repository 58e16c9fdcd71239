"""The serve command: a server that runs until a signal."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs

import techo
from techo._cli import logs, systemd
from techo._cli.admission import ADMISSION
from techo._cli.backlog import Backlog
from techo._cli.endpoints import check_ports, read_listening
from techo._cli.errors import cannot_listen, fail, refuse
from techo._cli.fault_file import REREAD, Faults
from techo._cli.faults import FAULT_NOTES, FAULTS
from techo._cli.metrics import METRICS, Pages, pages_of
from techo._cli.options import ANY, Command, Group, Option, flag, option, switch
from techo._cli.process import has_terminal, in_foreground, shortage
from techo._cli.readers import (
    FILE,
    MODE,
    TIME_OR_NONE,
    Form,
    choice,
    count_form,
    size_form,
    time_form,
)
from techo._cli.service import faults_of, make_service
from techo._cli.signals import held, release, stopping
from techo._cli.workers import WORKERS, workers_of
from techo._printable import printable
from techo._protocols import check_experimental
from techo._schema import headed
from techo._server.limits import Limits
from techo.endpoint import LISTENING_FORMS, Endpoint

if TYPE_CHECKING:
    import trio

    from techo._operate.workers import Workers

_log = logging.getLogger("techo.server")

# Windows has none.
_REPORT: Final = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))

_DESCRIPTION = """\
The word serve may be left out. Without an endpoint, sockets that systemd passes are served, or
tcp://127.0.0.1:8009."""

_EXAMPLES: Final = (
    ("techo --reply raw 9000 udp://9000", "bytes unchanged, TCP and UDP"),
    ("techo serve --idle-timeout 5 '*:8009'", "for other machines, IPv4 and IPv6"),
    ("techo --fault delay=20ms --fault reset=1000", "a bad one, to test a client with"),
)

_EXITS: Final = (
    ("0", "it was drained"),
    ("1", "connections were aborted"),
    ("2", "wrong usage, or nothing to listen on"),
    ("130", "by SIGINT, after Ctrl-C"),
)

_NOTES = f"""\
{FAULT_NOTES}

Standard output: a line "listening on ENDPOINT" for each socket. Standard error: the log.
systemd is notified when all are listening. SIGTERM and SIGINT drain the server: it stops
accepting, and ends each connection once no reply is pending. So does SIGHUP, unless it was
ignored at the start (nohup). A second signal stops it at once. SIGUSR1 prints statistics,
and SIGUSR2 has --fault-file read again, for new connections.
With --workers and without a terminal, SIGHUP replaces the workers, which read certificates
again."""


def _limit(field: attrs.Attribute[Any]) -> Option:
    """Return the option for a field of `Limits`, which has all that help says of it."""
    meaning, unit = field.metadata["meaning"], field.metadata["unit"]
    if isinstance(field.default, bool):
        return switch(
            flag("no_" + field.name), f"do not {meaning} (default: drop them)", default=True
        )
    if words := field.metadata.get("choices"):
        return option(flag(field.name), choice(*words), meaning, default=field.default)
    requirement: Any = field.validator
    form = {"s": time_form, "bytes": size_form}.get(unit, count_form)(requirement)
    if field.default in requirement.off:
        shown = "the kernel's maximum" if field.name == "backlog" else "off"
    else:
        shown = form.write(field.default) + f" {unit}" * (form.metavar == "N")
    return option(flag(field.name), form, meaning, default=field.default, shown=shown)


def _options() -> Iterator[Option | Group]:
    yield option(
        "endpoint",
        Form("ENDPOINT", read_listening, check=check_ports),
        f"where to listen: {LISTENING_FORMS}. Host * is every interface, and port 0 any free "
        "port. @NAME is an abstract name, and N a descriptor that the parent process has bound",
        repeatable=True,
        shown=f"what systemd passes, or {Endpoint()}",
    )
    yield option(
        "--reply",
        choice("stamped", "raw"),
        '"[date and time] chunk", or the bytes unchanged',
        default="stamped",
    )
    yield Group("Limits", [_limit(field) for field in attrs.fields(Limits)])
    yield ADMISSION
    yield METRICS
    yield Group(
        "Leaving",
        [
            option(
                "--lame-duck",
                TIME_OR_NONE,
                "after the first signal to stop, not be ready but go on accepting for this "
                "long, so that balancers stop sending first; a connection ends together with "
                "its next reply meanwhile",
                default=0.0,
                shown="off",
            )
        ],
    )
    yield WORKERS
    yield Group(
        "Sockets",
        [
            option(
                "--tls-cert",
                FILE,
                "what tls endpoints show: a certificate and its signers, PEM",
                shown="none",
            ),
            option("--tls-key", FILE, "its key", shown="in the same file"),
            option(
                "--tls-client-ca",
                FILE,
                "ask for clients' certificates, which these signed",
                shown="off",
            ),
            option(
                "--unix-mode",
                MODE,
                "permissions of Unix paths, such as 660",
                shown="as the umask says",
            ),
            ANY,
        ],
    )
    yield FAULTS
    loudness = [
        switch("-q --quiet", "log warnings and errors only"),
        switch("-v --verbose", "log single datagrams and refusals, too"),
    ]
    yield Group(
        "Log",
        [
            option(
                "--log-format",
                choice("text", "json"),
                "lines for people, or one JSON object per line",
                default="text",
            ),
            Group("", loudness, exclusive=True),
        ],
    )


def serve(options: argparse.Namespace) -> int:
    """Serve until drained and return the exit code: minus the signal's number for SIGINT."""
    log = logs.configure(
        quiet=options.quiet, verbose=options.verbose, log_format=options.log_format
    )
    try:
        return _serve(options, log.tell)
    finally:
        log.close()


def _serve(options: argparse.Namespace, tell: Callable[[str], None]) -> int:
    import trio

    if (short := shortage(-(-options.max_connections // (options.workers or 1)))) is not None:
        _log.warning("%s or lower --max-connections", short)
    try:
        pages = pages_of(options)
        inherited = systemd.take_inherited(os.environ)
        endpoints = options.endpoint or inherited or [Endpoint()]
        for each in () if options.any_protocol else endpoints:
            check_experimental(each.protocol, each)
        service = make_service(options, endpoints, pages)
        workers = None if options.workers is None else workers_of(options, service.limits)
    except ValueError as error:
        return refuse(str(error))
    notify = systemd.notifier(os.environ)
    watchdog = systemd.watchdog_period(os.environ)
    either = workers or service
    faults = faults_of(options)
    server = _Server(either, notify, tell, pages, options.lame_duck, workers, watchdog, faults)
    try:
        return trio.run(server.run, endpoints)
    finally:
        server.output.close()


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


@attrs.define(eq=False)
class _Server:
    """One service, or workers in its place, and the signals that end it."""

    service: techo.EchoService | Workers
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
    faults: Faults = attrs.field(factory=lambda: Faults(()))
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

    async def run(self, endpoints: list[Endpoint]) -> int:
        import trio

        from techo._log import draining
        from techo._nursery import open_bare_nursery

        self._starting = trio.CancelScope()
        self._stopping = trio.Event() if self.workers is None else self.workers.stopping
        heeded = (*stopping(), *_REPORT, *(REREAD if self.faults.path else ()))
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
        await trio.sleep(self.lame_duck)

    async def _report_listening(self, nursery: trio.Nursery) -> None:
        for endpoint in self.service.endpoints:
            self.output.write(printable(f"listening on {endpoint}"))
        if self.pages is not None:
            await self.pages.start(self.service, nursery)
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

    def _read_faults_again(self) -> None:
        if isinstance(self.service, techo.EchoService):
            service = self.service
            self.faults.read_again(lambda found: service.set_faults(*found))
        elif self.faults.read_again(lambda _: None):  # what is wrong with it is said only once
            self.service.tell("faults")

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
            elif number in REREAD:
                self._read_faults_again()
            elif self._reloads and number == signal.SIGHUP:
                if self.service.endpoints:
                    nursery.start_soon(self._reload)
            elif self._stop:
                nursery.cancel_scope.cancel(reason="a second signal")
            else:
                self._stop = number
                self._starting.cancel(reason="stopped before it was listening")
                self._stopping.set()


COMMAND: Final = Command(
    "serve",
    "[serve] [OPTION | ENDPOINT]...",
    _DESCRIPTION,
    [*_options()],
    serve,
    variables='TECHO_IDLE_TIMEOUT=5 or TECHO_ENDPOINT="8009 9000" (a client takes the first)',
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("serve", "operate", "recipes", "faults", "behaviour"),
    notes=_NOTES,
)
