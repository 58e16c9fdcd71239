"""Parsing: how arguments and TECHO_ variables become values, and what is said of mistakes."""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from techo._cli import versions
from techo._cli.command_page import page_of
from techo._cli.commands import COMMANDS, DEFAULT
from techo._cli.options import PREFIX, TRACEBACK, Command, Container, Group, Option
from techo._cli.output import print_error, print_lines
from techo._printable import did_you_mean, quoted

_NEAR: Final = 0.85
"""How alike two variables are, all of which begin alike, to be taken for each other."""


class _Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, and shows our own pages."""

    def __init__(self, command: Command) -> None:
        super().__init__(
            prog="techo" if command.name == DEFAULT else f"techo {command.name}",
            allow_abbrev=False,
            add_help=False,
            # Pages are ours; its own would look up how wide the terminal is, for each option.
            formatter_class=functools.partial(argparse.HelpFormatter, width=80),
        )
        self.command = command
        self.see = f"techo {command.name}"
        """Whose help has more about what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and leave."""
        self.exit(2, f"{self.prog}: {message} (see {self.see} --help)\n")

    def format_help(self) -> str:
        """Return what --help shows."""
        return page_of(self.command)


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print_lines(*parser.format_help().splitlines())
        parser.exit()


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print_lines(versions.line())
        parser.exit()


def parse(
    command: Command, arguments: Sequence[str], environment: Mapping[str, str]
) -> argparse.Namespace:
    """Read the arguments of a command, and for what they leave out, the environment.

    `given` lists the options that the arguments themselves set, and `variables` has by the
    names of the others the variables that have set them; `arguments` are what was read.

    Raises:
        SystemExit: with 2 after one line about what is wrong, or with 0 after help.
    """
    parser = _parser(command)
    # Before the environment: --help does not wait for a valid one.
    given = _given(parser, arguments)
    options = argparse.Namespace(variables={}, arguments=[*arguments])
    for each in command.all_options:
        value = each.default
        text = environment.get(each.variable, "")
        if text.strip() and each.dest not in given:  # empty is unset
            try:
                value = each.read_variable(text)
            except ValueError as error:
                parser.error(f"{each.variable}={quoted(text)}: {error}")
            options.variables[each.dest] = each.variable
        setattr(options, each.dest, given.get(each.dest, value))
    options.given = sorted(given)
    return options


def _given(parser: _Parser, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the values that arguments set."""
    namespace, unknown = parser.parse_known_intermixed_args(arguments)
    given = vars(namespace)
    # An unknown option comes first: what follows it may be its value, and no argument.
    for word in unknown:
        if word.startswith("-"):
            parser.error(_no_option(parser.command, word.partition("=")[0]))
    if unknown:
        parser.error(f"{quoted(unknown[0])} is one argument too many")
    for each in parser.command.all_options:
        if not each.positional:
            continue
        texts = given.pop(each.dest, None)
        if not texts:
            continue
        try:
            given[each.dest] = each.read(texts)
        except ValueError as error:
            if parser.command.name == DEFAULT:
                parser.see = "techo"  # it may be a command that is misspelt
            parser.error(str(error))
    return given


def _no_option(command: Command, word: str) -> str:
    """Return what to say of an option that a command has not."""
    wrong = f"there is no option {quoted(word)}"
    for name in COMMANDS:
        other: Command = importlib.import_module(f"techo._cli.{name}").COMMAND
        if any(word in each.names for each in other.all_options):
            return f"{wrong}; did you mean techo {name} {word}?"
    known = [name for each in command.all_options for name in each.names]
    # Without the dashes, which make all of them alike.
    bare = [name[2:] for name in (*known, "--help", "--version") if name.startswith("--")]
    return wrong + did_you_mean(word.lstrip("-"), bare).replace("mean ", "mean --")


def _parser(command: Command) -> _Parser:
    parser = _Parser(command)
    for names, action in ((("-h", "--help"), _Help), (("--version",), _Version)):
        parser.add_argument(
            *names, action=action, nargs=0, dest=argparse.SUPPRESS, default=argparse.SUPPRESS
        )
    _add(parser, command.options)
    # Or, because of -4 and -6, it would take the -1 of `-W -1` for one more option.
    parser._has_negative_number_optionals.clear()  # noqa: SLF001  -- there is no public way
    return parser


def _add(parser: Container, options: Iterable[Option | Group]) -> None:
    for each in options:
        if isinstance(each, Option):
            each.add_to(parser)
        elif each.exclusive:
            _add(parser.add_mutually_exclusive_group(), each.options)
        else:
            _add(parser, each.options)


def warn_of_unknown(
    command: Command, environment: Mapping[str, str], others: Callable[[], Iterable[Command]]
) -> None:
    """Report variables that begin like ours, and that no command knows; misspelt, maybe."""
    found = {name for name, text in environment.items() if text and name.startswith(PREFIX)}
    found -= {each.variable for each in command.all_options} | {TRACEBACK}
    if not found:
        return
    import difflib

    known = {each.variable for other in others() for each in other.all_options} - {""}
    unknown = sorted(found - known)
    if unknown:
        near = [difflib.get_close_matches(name, known, 1, _NEAR) for name in unknown]
        hints = sorted({name for names in near for name in names})
        hint = f"; did you mean {', '.join(hints)}?" if hints else ""
        print_error(f"techo: warning: no command knows {', '.join(unknown)}{hint}")
