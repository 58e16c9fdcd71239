"""The serve command: a server that lives until a signal."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator

import attrs
import trio

import techo
from techo._cli import logs
from techo._cli.complaints import complain

_log = logging.getLogger("techo.server")

_STOP = (signal.SIGTERM, signal.SIGINT)
# Windows has none.
_REPORT = tuple(getattr(signal, name) for name in ("SIGUSR1",) if hasattr(signal, name))

_SPARE_DESCRIPTORS = 64
"""For listening sockets, the run's own, and the files that a program happens to open."""


def serve(options: argparse.Namespace) -> int:
    """Serve until drained, and give the exit code: minus the signal's number for SIGINT."""
    logs.configure(quiet=options.quiet, verbose=options.verbose, log_format=options.log_format)
    limits = techo.Limits(
        **{field.name: getattr(options, field.name) for field in attrs.fields(techo.Limits)}
    )
    _make_room_for(limits.max_connections)
    try:
        return trio.run(_serve, options.endpoint, getattr(techo, options.reply), limits)
    except OSError as error:
        return complain(f"cannot listen on {error.filename}", error)


async def _serve(
    endpoints: list[techo.Endpoint], reply: techo.Reply, limits: techo.Limits
) -> int:
    with trio.open_signal_receiver(*_STOP, *_REPORT) as signals:
        async with techo.open_server(*endpoints, reply=reply, limits=limits) as server:
            for endpoint in server.endpoints:
                print(f"listening on {endpoint}", flush=True)
            stop = await _next_stop(signals, server)
            _log.debug("draining: %s", signal.Signals(stop).name)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_at_once, signals, server, nursery.cancel_scope)
                await server.drain()
                nursery.cancel_scope.cancel()
    if stop == signal.SIGINT:
        return -stop
    return 1 if server.statistics().outcomes[techo.Outcome.ABORTED] else 0


async def _next_stop(signals: AsyncIterator[int], server: techo.EchoService) -> int:
    async for number in signals:
        if number in _STOP:
            return number
        _print_statistics(server)
    raise AssertionError("a signal receiver has no end")


async def _stop_at_once(
    signals: AsyncIterator[int], server: techo.EchoService, scope: trio.CancelScope
) -> None:
    await _next_stop(signals, server)
    scope.cancel(reason="a second signal")


def _print_statistics(server: techo.EchoService) -> None:
    print(json.dumps(attrs.asdict(server.statistics())), flush=True)


def _make_room_for(connections: int) -> None:
    """Raise the limit on open files to what `connections` take, or say why it stays short."""
    if sys.platform == "win32":
        return  # which has no such limit
    import resource

    needed = connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    room = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    if room < needed:
        _log.warning(
            "only %d files may be open, which is too few for %d connections: "
            "raise the limit (ulimit -Hn) or lower --max-connections",
            room,
            connections,
        )
