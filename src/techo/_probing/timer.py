"""The timer: sleeps that end within a fraction of a millisecond, without holding up the run.

Trio's own timeouts are rounded up to whole milliseconds (epoll_wait(2)); what a kernel's timer
reports by a descriptor (timerfd_create(2)) is late by 0.1 to 0.2 ms in the median.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import time
from collections.abc import Iterator
from typing import Final

import attrs
import trio

_COARSE: Final = 0.002
"""Seconds before the time is up at which the timer takes over from trio, which may be late by
one millisecond, and by a little more on a busy machine."""

_NONBLOCK_CLOEXEC: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
"""TFD_NONBLOCK and TFD_CLOEXEC have the numbers of these on Linux."""


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


@attrs.frozen(eq=False)
class Timer:
    """A timer of the kernel's; `open_timer` makes one and closes it."""

    _descriptor: int | None
    """None where the system has no such timers."""

    async def sleep_until(self, due: float) -> None:
        """Sleep until `due`, in the run's clock, and not a moment less.

        In a run whose clock is not the real one, as in tests, `trio.sleep_until` does it.
        """
        await trio.sleep_until(due - _COARSE)
        clock = trio.lowlevel.current_clock()
        # For a clock of tests that is much longer than what is left, or no time at all.
        while 0 < (rest := clock.deadline_to_sleep_time(due)) <= 2 * _COARSE:
            if self._descriptor is None:
                break
            _arm(self._descriptor, rest)
            await trio.lowlevel.wait_readable(self._descriptor)
            os.read(self._descriptor, 8)
        if rest > 0:
            await trio.sleep_until(due)


@contextlib.contextmanager
def open_timer() -> Iterator[Timer]:
    """Open a timer for the length of a block."""
    try:
        descriptor = _create()
    except OSError:  # no descriptors are left, or no such system: trio's own time has to do
        yield Timer(None)
        return
    try:
        yield Timer(descriptor)
    finally:
        os.close(descriptor)


# Python has these as os.timerfd_create and os.timerfd_settime_ns from 3.13 on.
@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _create() -> int:
    if not hasattr(_library(), "timerfd_create"):
        raise OSError("this system has no timerfd_create")
    descriptor: int = _library().timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def _arm(descriptor: int, seconds: float) -> None:
    fraction, whole = math.modf(seconds)
    value = _Timespec(int(whole), max(1, int(fraction * 1e9)))  # all zeros would disarm it
    spec = _Itimerspec(_Timespec(0, 0), value)
    if _library().timerfd_settime(descriptor, 0, ctypes.byref(spec), None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
