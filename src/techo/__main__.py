"""python -m techo."""

import signal

if __name__ == "__main__":
    # Until a command asks for signals itself, Ctrl-C just ends it, without a traceback; while
    # the rest is being imported, too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from techo._cli import entry

    entry()
