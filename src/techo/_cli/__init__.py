"""The command line room: arguments, printing, signals, exit codes, logging set-up."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from techo._cli import output, process, signals
from techo._cli.commands import COMMANDS, DEFAULT
from techo._cli.output import OutputError

if TYPE_CHECKING:
    from techo._cli.options import Command

_HELP: Final = {"-h", "--help"}
_VERSION: Final = {"--version"}


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; wrong usage leaves by `SystemExit`."""
    # What is imported here is what is used: the first page should not wait for options, nor
    # help for trio, nor one command for another.
    first = arguments[0] if arguments else ""
    if first in _HELP:
        from techo._cli import page

        output.print_lines(*page.first_page().splitlines())
        return 0
    if first in _VERSION:
        from techo._cli import versions

        output.print_lines(versions.line())
        return 0
    name = DEFAULT
    if first in COMMANDS:
        name, arguments = first, arguments[1:]
    command = _command(name)
    from techo._cli.parsing import parse, warn_of_unknown

    options = parse(command, arguments, os.environ)
    warn_of_unknown(command, os.environ, lambda: map(_command, COMMANDS))
    if (short := process.too_few_to_start()) is not None:
        from techo._cli.errors import refuse

        return refuse(short)
    return command.run(options)


def _command(name: str) -> Command:
    found: Command = importlib.import_module(f"techo._cli.{name}").COMMAND
    return found


def entry() -> NoReturn:
    """Run the command that this process was started for."""
    process.open_missing_streams()
    output.survive_any_encoding()
    try:
        try:
            code = main(sys.argv[1:])
        finally:
            with output.writing():
                sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001, ASYNC103  -- a bug, behind the run
        code = _last_resort(error)
    sys.exit(signals.end_by(signal.SIGINT) if code == -signal.SIGINT else code)


def _last_resort(error: BaseException) -> int:
    """Report what has escaped from a command in one line; return the exit code for it."""
    if isinstance(error, OutputError):
        if not isinstance(error.error, BrokenPipeError):
            reason = error.error.strerror or error.error
            output.print_error(f"techo: cannot write to standard output: {reason}")
        process.abandon_output()
        return 1
    from techo._cli.bugs import report_bug

    return report_bug(error)
