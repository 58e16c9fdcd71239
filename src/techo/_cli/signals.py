"""Signals: which of them end a command, and how a process ends by one."""

from __future__ import annotations

import signal
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


def end_by(number: int) -> int:
    """End this process by a signal; return the exit code for where that cannot be."""
    # A shell that runs us in a loop stops the loop only if the signal is what ended us.
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    return _BY_SIGNAL + number
