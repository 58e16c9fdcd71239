"""The serve command: a server that lives until a signal."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable

import attrs
import trio

import techo
from techo._cli import logs, systemd
from techo._cli.complaints import complain_of_binding, refuse
from techo._cli.descriptors import shortage
from techo._cli.output import say
from techo._cli.tls import server_context
from techo._nursery import open_bare_nursery

_log = logging.getLogger("techo.server")

_STOP = (signal.SIGTERM, signal.SIGINT)
# Windows has none.
_REPORT = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))


def serve(options: argparse.Namespace) -> int:
    """Serve until drained, and give the exit code: minus the signal's number for SIGINT."""
    logs.configure(quiet=options.quiet, verbose=options.verbose, log_format=options.log_format)
    limits = techo.Limits(
        **{field.name: getattr(options, field.name) for field in attrs.fields(techo.Limits)}
    )
    if (short := shortage(limits.max_connections)) is not None:
        _log.warning("%s or lower --max-connections", short)
    try:
        inherited = systemd.take_inherited(os.environ)
        endpoints = options.endpoint or inherited or [techo.Endpoint()]
        service = techo.EchoService(
            getattr(techo, options.reply),
            limits=limits,
            tls=server_context(options, endpoints),
            unix_mode=options.unix_mode,
            faults=options.fault,
            seed=options.seed,
        )
    except ValueError as error:
        return refuse(str(error))
    server = _Server(service, systemd.notifier(os.environ))
    return trio.run(server.run, endpoints)


@attrs.define(eq=False)
class _Server:
    """One service and the signals that it lives by."""

    service: techo.EchoService
    notify: Callable[[str], None]
    """Tells whoever started us how far we are."""
    _stop: int = 0
    """The first signal that asked for the end."""
    _starting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _stopping: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, endpoints: list[techo.Endpoint]) -> int:
        # The handlers that come back in the end let late signals pass, so that they don't
        # change the exit code of a server that has already drained.
        for number in (*_STOP, *_REPORT):
            signal.signal(number, signal.SIG_IGN)
        with trio.open_signal_receiver(*_STOP, *_REPORT) as signals:
            async with open_bare_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                try:
                    with self._starting:
                        await nursery.start(self.service.serve, *endpoints)
                except OSError as error:
                    nursery.cancel_scope.cancel(reason="not listening")
                    return complain_of_binding(error)
                except ValueError as error:  # such as a fault that cannot happen there
                    nursery.cancel_scope.cancel(reason="not listening")
                    return refuse(str(error))
                for endpoint in self.service.endpoints:
                    say(f"listening on {endpoint}")
                if self.service.endpoints:  # or it was stopped before it was listening
                    self.notify("READY=1")
                await self._stopping.wait()
                self.notify("STOPPING=1")
                _log.debug("draining after %s", signal.Signals(self._stop).name)
                await self.service.drain()
                nursery.cancel_scope.cancel(reason="drained")
        if self._stop == signal.SIGINT:
            return -self._stop
        return 1 if self.service.statistics().outcomes[techo.Outcome.ABORTED] else 0

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Report when asked; drain at the first signal to stop, and end at the second."""
        async for number in signals:
            if number in _REPORT:
                say(json.dumps(attrs.asdict(self.service.statistics())))
            elif self._stop:
                scope.cancel(reason="a second signal")
            else:
                self._stop = number
                self._starting.cancel(reason="stopped before it was listening")
                self._stopping.set()
