"""The completion command: prints what lets a shell complete techo's command lines."""

from __future__ import annotations

import argparse
import importlib
import re
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

_BASH: Final = """
# Bash breaks words at "=" and ":", so that a value of --OPTION=VALUE or KEY=VALUE is a word of
# its own to it. Put them together, and ask for the value as if it stood behind a blank.
_techo() {
  local words=() each at=0 index broken=0 reply kept=()
  for ((index = 0; index <= COMP_CWORD; index++)); do
    each=${COMP_WORDS[index]}
    if ((index > 1)) && [[ $each == [=:]* || $broken = 1 && -n $each ]]; then
      words[at]+=$each
    else
      ((at = ${#words[@]}))
      words[at]=$each
    fi
    [[ $each == *[=:] ]] && broken=1 || broken=0
  done
  local typed=${words[at]} before=
  COMP_WORDS=()
  for each in "${words[@]}"; do
    if [[ $each == --*=* ]]; then
      COMP_WORDS+=("${each%%=*}" "${each#*=}")
    else
      COMP_WORDS+=("$each")
    fi
  done
  ((COMP_CWORD = ${#COMP_WORDS[@]} - 1))
  _shtab_techo
  [[ $typed == --*=* ]] && before=${typed%%=*}=
  [[ $COMP_WORDBREAKS == *=* && $typed == *=* ]] && each=${typed%=*}= || each=
  [[ $COMP_WORDBREAKS == *:* && ${typed#"$each"} == *:* ]] && each=${typed%:*}:
  for reply in "${COMPREPLY[@]}"; do
    reply=$before$reply
    reply=${reply#"$each"}
    [[ -n $reply ]] && kept+=("$reply")
  done
  COMPREPLY=("${kept[@]}")
  # What is still to be typed stands right behind these.
  [[ ${#kept[@]} = 1 && ${kept[0]} == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}

complete -o bashdefault -F _techo techo
"""
"""Goes on from shtab's script for bash."""

_ZSH: Final = """\
_techo_words() {
  compadd -S '' -- ${(M)@:#*=}
  compadd -- ${@:#*=}
}
"""
"""What adds words for zsh: a value stands right behind those that end in an equals sign."""


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

    found = shtab.complete(_parser(), shell, preamble=_ZSH if shell == "zsh" else "")
    if shell == "bash":
        return found + _BASH
    return _for_zsh(found) if shell == "zsh" else _for_fish(found)


def _for_fish(found: str) -> str:
    """Return shtab's script with files as values after an equals sign, too."""
    return found.replace(' -xka "(__fish_complete_path (commandline -ct))"', " -r -F")


def _for_zsh(found: str) -> str:
    """Return shtab's script with what zsh needs to see what an option or argument is."""

    def mark(match: re.Match[str]) -> str:
        short = re.sub("(?<![a-z-])-[A-Za-z]", r"\g<0>+", match[0])
        return re.sub("--[a-z-]+", r"\g<0>=", short)

    # A value may stand behind an equals sign, and that of a short option behind it.
    value = r"""(?m)^  (?:"\*")?(?:\{[-a-zA-Z,]+\}"|"\*?--[a-z-]+)(?=\[.*\]:[^:]+:)"""
    found = re.sub(value, mark, found)
    # All arguments are alike, not only the first.
    found = found.replace('  "(*)::', '  "*:')
    # Unlike those in parentheses, these may go on.
    found = re.sub(r':\(([^()"]*=[^()"]*)\)"', r': _techo_words \1"', found)
    # What is no command stands behind serve, which need not be named.
    end = "      esac\n  esac"
    serve = f"        *) _arguments -C -s $_shtab_techo_{DEFAULT}_options ;;\n"
    return found.replace(end, serve + end)


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
    elif each.several:
        keywords |= {"action": "extend", "nargs": "+"}
    elif each.repeatable:
        keywords["action"] = "append"
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
