"""The completion command: prints what lets a shell complete techo's command lines."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable
from typing import Any, Final

from techo._cli.commands import COMMANDS, DEFAULT, SUMMARIES
from techo._cli.errors import refuse
from techo._cli.options import Command, Option, option
from techo._cli.output import writing
from techo._cli.readers import choice

_DESCRIPTION = """\
Commands, options, the words that options take, chapters and the names of files are completed.
The script asks nobody: it has all that this version of techo knows. Source it in ~/.bashrc, or
put it into a folder of zsh's fpath as _techo, or into ~/.config/fish/completions."""

_EXAMPLES: Final = (
    ("techo completion bash > techo.bash", "to be sourced in ~/.bashrc"),
    ("techo completion zsh > _techo", "for a folder of fpath"),
    ("techo completion fish > techo.fish", "for ~/.config/fish/completions"),
)

_EXITS: Final = (("0", "it was printed"), ("2", "wrong usage"))


def completion(options: argparse.Namespace) -> int:
    """Print the script for a shell; return the exit code."""
    if options.shell is None:
        return refuse("completion needs the shell: bash, zsh or fish")
    with writing():
        print(script(options.shell), flush=True)
    return 0


def script(shell: str) -> str:
    """Return what makes a shell complete."""
    import shtab

    return shtab.complete(_parser(), shell)


def _parser() -> argparse.ArgumentParser:
    """Return a parser of all commands at once, which only describes them."""
    commands: dict[str, Command] = {
        name: importlib.import_module(f"techo._cli.{name}").COMMAND for name in COMMANDS
    }
    parser = argparse.ArgumentParser(prog="techo")
    inner = parser.add_subparsers()
    for name, command in commands.items():
        _describe(inner.add_parser(name, help=SUMMARIES[name]), command.all_options)
    # The command that need not be named: its options stand beside the commands, not its
    # arguments, in whose place zsh would not look for commands any more.
    _describe(parser, (each for each in commands[DEFAULT].all_options if not each.positional))
    return parser


def _describe(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    parser.add_argument("--version", action="store_true", help="print versions and exit")
    for each in options:
        _add(parser, each)


def _add(parser: argparse.ArgumentParser, each: Option) -> None:
    keywords: dict[str, Any] = {"help": each.help.replace("%", "%%")}
    if each.form is None:
        keywords["action"] = "store_true"
    else:
        keywords |= {"metavar": each.form.metavar, "choices": each.form.choices() or None}
    if each.positional:
        keywords["nargs"] = "*" if each.repeatable else "?"
    action: Any = parser.add_argument(*each.names, **keywords)
    if each.form is not None and each.form.metavar == "FILE":
        import shtab

        action.complete = shtab.FILE


COMMAND: Final = Command(
    "completion",
    "completion {bash,zsh,fish}",
    _DESCRIPTION,
    [option("shell", choice("bash", "zsh", "fish"), "whose script it is", shown="", named="")],
    completion,
    examples=_EXAMPLES,
    exits=_EXITS,
)
