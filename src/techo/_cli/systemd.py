"""systemd: sockets that it has bound for us, and notifying it when we are ready."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Final

from techo._addresses import unix_address
from techo._printable import quoted
from techo.endpoint import Endpoint, Kind

_log = logging.getLogger("techo.server")

_FIRST: Final = 3
"""The first inherited descriptor's number (SD_LISTEN_FDS_START of sd_listen_fds(3))."""

Environment = MutableMapping[str, str]


def take_inherited(environment: Environment) -> list[Endpoint]:
    """Return the sockets passed to this process by sd_listen_fds(3)'s rules, if any.

    Removes the variables and closes the sockets to processes that we start, so that these
    do not take them for their own.

    Raises:
        ValueError: LISTEN_FDS is not a number.
    """
    variables = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    process, count, names = (environment.pop(each, "") for each in variables)
    if process != str(os.getpid()):
        return []
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS={quoted(count)} is not a number of descriptors")
    found = [Endpoint(kind=Kind.FD, descriptor=_FIRST + number) for number in range(int(count))]
    for endpoint in found:
        with contextlib.suppress(OSError):  # serving it reports what is wrong
            os.set_inheritable(int(endpoint.descriptor or 0), False)
    if found:
        _log.info("inherited %d sockets: %s", len(found), names or "without names")
    return found


def reloading() -> str:
    """Return the state of a service that begins to reload, which has to say when (systemd)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"


def notifier(environment: Environment) -> Callable[[str], None]:
    """Return what sends a state such as ``READY=1`` by sd_notify(3)'s rules.

    Removes the variable. Without one, what is returned does nothing; it only logs failures.
    """
    address = environment.pop("NOTIFY_SOCKET", "")

    def notify(state: str) -> None:
        if not address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)  # nobody is waited for
                sock.sendto(state.encode(), unix_address(address))
        except OSError as error:
            _log.warning("cannot notify %s of %s: %s", address, state, error.strerror or error)

    return notify


def watchdog_period(environment: Environment) -> float | None:
    """Return within how many seconds systemd wants to hear that we live; None if it does not.

    Removes the variables, which are those of sd_watchdog_enabled(3).
    """
    process, period = (environment.pop(each, "") for each in ("WATCHDOG_PID", "WATCHDOG_USEC"))
    if not period.isdecimal() or process not in ("", str(os.getpid())):
        return None
    return int(period) / 1e6


async def keep_watchdog(
    notify: Callable[[str], None],
    period: float | None,
    answers: Callable[[], Awaitable[bool]],
) -> None:
    """Let systemd know twice within each period that we live, as long as all answer.

    This is a task of the run that accepts: where that hangs, this does too.
    """
    import trio

    while period is not None:
        if await answers():
            notify("WATCHDOG=1")
        await trio.sleep(period / 2)
