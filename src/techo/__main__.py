"""The start of `python -m techo` and of the program `techo`: signals first, then the rest."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that this process was started for."""
    # Until a command asks for signals itself, Ctrl-C just ends it, without a traceback; while
    # the rest is being imported, too. What process 1 does not handle, the kernel ignores
    # (pid_namespaces(7)).
    if os.getpid() == 1:
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
        for number in (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) * (not ignored))):
            signal.signal(number, lambda number, _: os._exit(128 + number))
    else:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from techo._cli import entry  # noqa: PLC0415  -- which takes a while

    entry()


if __name__ == "__main__":
    main()
