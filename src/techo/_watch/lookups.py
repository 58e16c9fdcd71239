"""Look-ups of names, of which one that hangs holds up nobody but who wants that name."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
import trio

from techo._addresses import Found, is_literal
from techo._shortage import look_up

_SLOW: Final = 1.0
"""Seconds after which a look-up is slow, and its name is next looked up among such names."""

_QUICK_THREADS: Final = 64
_SLOW_THREADS: Final = 16
"""At once: a thread waits for a resolver, and cannot be stopped."""

Name: TypeAlias = tuple[str, int, int, int]
"""Host, port, kind of socket, family."""


@attrs.define(eq=False)
class _Running:
    over: trio.Event = attrs.field(factory=trio.Event)
    found: list[Found] | None = None
    error: OSError | None = None


@attrs.define(eq=False)
class Lookups:
    """Looks up each name once at a time, whoever wants to know it."""

    nursery: trio.Nursery
    """Where they run, so that one who does not wait any longer takes nothing from others."""
    resolve: Callable[..., Any] = socket.getaddrinfo
    """Called in a thread."""
    _running: dict[Name, _Running] = attrs.field(factory=dict)
    _slow: set[str] = attrs.field(factory=set)
    """Hosts whose latest look-up took long."""
    _quick_threads: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(_QUICK_THREADS)
    )
    _slow_threads: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(_SLOW_THREADS)
    )

    async def look_up(
        self, host: str, port: int, kind: int, family: int = socket.AF_UNSPEC
    ) -> list[Found]:
        """Look up a name; cancelling this leaves the look-up to others that wait for it.

        Raises:
            socket.gaierror: the name is unknown.
            OSError: this machine has fallen short.
        """
        if is_literal(host):
            return await look_up(host, port, kind, family)
        name = host, port, kind, family
        running = self._running.get(name)
        if running is None:
            running = self._running[name] = _Running()
            self.nursery.start_soon(self._run, name, running)
        await running.over.wait()
        if running.error is not None:
            raise running.error
        return list(running.found or ())

    async def _run(self, name: Name, running: _Running) -> None:
        host, began = name[0], trio.current_time()
        threads = self._slow_threads if host in self._slow else self._quick_threads
        self._slow.add(host)  # until it has proved to be quick: it may never end
        try:
            running.found = await look_up(*name, functools.partial(self._find, threads))
        except OSError as error:
            running.error = error
        finally:
            if trio.current_time() - began < _SLOW:
                self._slow.discard(host)
            del self._running[name]
            running.over.set()

    async def _find(self, threads: trio.CapacityLimiter, *wanted: Any) -> list[Found]:
        """Ask the system in one of these threads, or the program's own resolver."""
        if _has_resolver():
            return list(await trio.socket.getaddrinfo(*wanted))
        found: list[Found] = await trio.to_thread.run_sync(
            self.resolve, *wanted, abandon_on_cancel=True, limiter=threads
        )
        return found


def _has_resolver() -> bool:
    """Return whether the program looks up names by itself in this run, without a thread."""
    found = trio.socket.set_custom_hostname_resolver(None)  # there is no other way to ask
    trio.socket.set_custom_hostname_resolver(found)
    return found is not None
