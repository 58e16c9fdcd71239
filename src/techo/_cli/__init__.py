"""The command line room: arguments, printing, signals, exit codes, logging set-up."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from techo._cli import process
from techo._cli.options import Command, parse

_COMMANDS: Final = ("serve", "talk", "check", "ping", "load", "merge")
"""Each is a file of this name, which has its `COMMAND`."""

_DEFAULT: Final = "serve"
"""The command that need not be named."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; wrong usage leaves by `SystemExit`."""
    name = _DEFAULT
    if arguments and arguments[0] in _COMMANDS:
        name, arguments = arguments[0], arguments[1:]
    # Only this one, and none imports trio before it runs: --help should not wait for that.
    command: Command = importlib.import_module(f"techo._cli.{name}").COMMAND
    return command.run(parse(command, arguments, os.environ))


def entry() -> NoReturn:
    """Run the command that this process was started for."""
    # Until a command asks for signals itself, Ctrl-C just ends it, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    process.open_missing_streams()
    try:
        try:
            code = main(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except OSError as error:  # what goes wrong on the network does not come this far
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"techo: cannot write to standard output: {error.strerror}\n")
        process.abandon_output()
        code = 1
    if code == -signal.SIGINT:
        # A shell that runs us in a loop stops the loop only if the signal is what ended us.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    sys.exit(code)
