"""The command line room: arguments, printing, signals, exit codes, logging set-up."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from techo._cli import output
from techo._cli.options import parse

_MODULES: Final = {
    "serve": "serve",
    "talk": "talk",
    "check": "check",
    "ping": "measuring.ping",
    "load": "measuring.load",
    "merge": "measuring.merge",
}
"""Where each command is: a function of its own name."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and give its exit code; wrong usage leaves by `SystemExit`."""
    options = parse(arguments, os.environ)
    # Imported only now, because --help should not wait for trio.
    module = importlib.import_module(f"techo._cli.{_MODULES[options.command]}")
    code: int = getattr(module, options.command)(options)
    return code


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
