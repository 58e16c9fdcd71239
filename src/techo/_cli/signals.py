"""Signals: which of them end a command, and how a process ends by one."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Iterator
from typing import Final

_BY_SIGNAL: Final = 128
"""What shells add to the number of a signal, to get an exit code."""


def stopping() -> tuple[signal.Signals, ...]:
    """Return the signals that ask for the end; SIGHUP does unless it was ignored (nohup)."""
    found = (signal.SIGINT, signal.SIGTERM)
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return found
    return (*found, hangup)


@contextlib.contextmanager
def held(numbers: Iterable[int]) -> Iterator[None]:
    """Let these signals wait until `release`, or until the end, where they do nothing.

    One that comes while a command begins must not be lost, nor end it in the middle of that.
    The handlers that come back in the end let late signals pass, which find the work done.
    """
    numbers = [*numbers]
    if hasattr(signal, "pthread_sigmask"):  # Windows has none
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.signal(number, _pass)
    try:
        yield
    finally:
        release(numbers)


def release(numbers: Iterable[int]) -> None:
    """Let them come, those that have waited too: there is somebody who heeds them now."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def _pass(_number: int, _frame: object) -> None:
    """Do nothing: what is ignored would be forgotten, even if it waits already."""


def end_by(number: int) -> int:
    """End this process by a signal; return the exit code for where that cannot be."""
    # A shell that runs us in a loop stops the loop only if the signal is what ended us.
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    return _BY_SIGNAL + number
