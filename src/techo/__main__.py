"""python -m techo."""

import os
import signal

if __name__ == "__main__":
    # Until a command asks for signals itself, Ctrl-C just ends it, without a traceback; while
    # the rest is being imported, too. What process 1 does not handle, the kernel ignores.
    if os.getpid() == 1:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda number, _: os._exit(128 + number))
    else:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from techo._cli import entry

    entry()
