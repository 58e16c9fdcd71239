"""Options: from arguments and TECHO_ variables to the checked values of a command."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from techo._cli.arguments import flag
from techo._cli.check_options import CHECK
from techo._cli.measuring.load_options import LOAD
from techo._cli.measuring.merge_options import MERGE
from techo._cli.measuring.ping_options import PING
from techo._cli.serve_options import SERVE
from techo._cli.talk_options import TALK

_COMMANDS: Final = {
    "serve": SERVE,
    "talk": TALK,
    "check": CHECK,
    "ping": PING,
    "load": LOAD,
    "merge": MERGE,
}

_DEFAULT: Final = "serve"
"""The command that need not be named."""

_ARGUMENTS: Final = {"command", "files"}
"""What is for the command line alone."""


class _Parser(argparse.ArgumentParser):
    source = ""
    """What to name in an error besides the option."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {self.source}{message} (see {self.prog} --help)\n")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """Read the arguments of one command; `command` says which it is.

    `given` lists what the arguments themselves change, whatever the environment says.

    Raises:
        SystemExit: with 2 after one line about what is wrong, or with 0 after help.
    """
    name = _DEFAULT
    if arguments and arguments[0] in _COMMANDS:
        name, arguments = arguments[0], arguments[1:]
    parser = _parser(name)
    # Before the environment: --help does not wait for a sane one.
    given = vars(parser.parse_intermixed_args(arguments))
    defaults = vars(parser.parse_args([]))
    _apply_environment(parser, environment)
    options = parser.parse_intermixed_args(arguments)
    options.given = sorted(name for name in given if given[name] != defaults[name])
    for name in options.given:
        if isinstance(given[name], list):  # to which argparse has added the environment's
            setattr(options, name, given[name])
    return options


def _parser(name: str) -> _Parser:
    command = _COMMANDS[name]
    parser = _Parser(
        prog="techo" if name == _DEFAULT else f"techo {name}",
        usage=f"%(prog)s {command.usage}",
        description=command.description,
        epilog=command.more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=name)
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="print versions and exit",
    )
    command.add_arguments(parser)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        techo, trio = map(importlib.metadata.version, ("techo", "trio"))
        print(f"techo {techo}, trio {trio}, Python {platform.python_version()}")
        parser.exit()


def _apply_environment(parser: _Parser, environment: Mapping[str, str]) -> None:
    """Turn TECHO_ variables into defaults; flags, which only switch something on, have none."""
    for name, default in vars(parser.parse_args([])).items():
        variable = "TECHO_" + name.upper()
        if variable not in environment or name in _ARGUMENTS or isinstance(default, bool):
            continue
        text = environment[variable]
        given = ["--", *text.split()] if name == "endpoint" else [flag(name) + "=" + text]
        parser.source = f"{variable}={text!r}: "
        parser.set_defaults(**{name: getattr(parser.parse_args(given), name)})
    parser.source = ""
