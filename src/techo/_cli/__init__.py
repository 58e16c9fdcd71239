"""The command line room: arguments, printing, signals, exit codes, logging set-up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from techo._cli import output
from techo._cli.options import parse


def main(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code; wrong usage leaves by `SystemExit`."""
    options = parse(arguments, os.environ)
    # Imported here, because --help should not wait for trio.
    if options.command == "talk":
        from techo._cli.talk import talk

        return talk(options)
    if options.command == "check":
        from techo._cli.check import check

        return check(options)
    if options.command == "ping":
        from techo._cli.ping import ping

        return ping(options)
    if options.command == "load":
        from techo._cli.load import load

        return load(options)
    if options.command == "merge":
        from techo._cli.merge import merge

        return merge(options)
    from techo._cli.serve import serve

    return serve(options)


def entry() -> NoReturn:
    """Run the command that this process was started for."""
    # Until a command asks for signals itself, Ctrl-C just ends it, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    output.open_missing_streams()
    try:
        try:
            code = main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except OSError as error:  # what goes wrong on the network does not come this far
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"techo: cannot write to standard output: {error.strerror}\n")
        output.give_up()
        code = 1
    if code == -signal.SIGINT:
        # A shell that runs us in a loop stops the loop only if the signal is what ended us.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    sys.exit(code)
