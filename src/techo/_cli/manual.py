"""The manual page, techo(1): made from the same tables as help, when a wheel is built."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Final

import techo
from techo._cli import commands
from techo._cli.command_page import ALWAYS, environment, see_also, sentence, titled, values
from techo._cli.options import Command, Option

_ESCAPES: Final = {
    "\\": "\\e",
    "-": "\\-",
    "'": "\\(aq",
    "`": "\\(ga",
    "^": "\\(ha",
    "~": "\\(ti",
}
"""What roff would set as something else that looks alike (groff_char(7))."""


def manual() -> str:
    """Return the page as a source for man(1)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    found: list[Command] = [
        importlib.import_module(f"techo._cli.{name}").COMMAND for name in commands.COMMANDS
    ]
    yield f'.TH TECHO 1 "" "techo {techo.__version__}" "User Commands"'
    yield from (".nh", ".ad l")  # a name that is broken at a hyphen cannot be copied
    yield ".SH NAME"
    yield "techo \\- echo service: server, client, checks, and measurements of loss and latency"
    yield ".SH SYNOPSIS"
    yield _bold(commands.USAGE)
    yield ".SH DESCRIPTION"
    yield from _paragraphs(f"{commands.ABOUT}\n\n{commands.MORE}")
    yield from _tagged([*commands.SUMMARIES.items()])
    for command in found:
        yield from _command(command)
    yield ".SH VALUES"
    explained = dict.fromkeys(text for command in found for text in values(command))
    yield from _paragraphs("\n\n".join(explained))
    yield ".SH SEE ALSO"
    yield from _paragraphs(
        "The chapters of techo help, among them a tour from twelve lines to its server."
    )


def _command(command: Command) -> Iterator[str]:
    yield f'.SH "TECHO {command.name.upper()}"'
    yield _bold(f"techo {command.usage}")
    yield ".PP"
    yield from _paragraphs(f"{sentence(command.summary)}\n\n{command.description}")
    for title, options in titled(command):
        rows = [*_rows(options), *(ALWAYS if title == "Options" else ())]
        if rows:
            yield _heading(title)
            yield from _tagged(rows)
    if command.notes:
        yield _heading("Notes")
        yield from _paragraphs(command.notes)
    yield _heading("Exit status")
    yield from _tagged(command.exits)
    if command.variables:
        yield _heading("Environment")
        yield from _paragraphs(environment(command))
    yield _heading("Examples")
    yield from _tagged(command.examples)
    if command.chapters:
        yield ".PP"
        yield _text(see_also(command))


def _rows(options: Sequence[Option]) -> Iterator[tuple[str, str]]:
    return ((each.written, each.help) for each in options)


def _heading(title: str) -> str:
    return f'.SS "{_escaped(title)}"'


def _tagged(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    for tag, text in rows:
        yield ".TP"
        yield _bold(tag)
        yield _text(text)


def _paragraphs(text: str) -> Iterator[str]:
    """Return paragraphs; lines that are indented in the text are lists, as they are in help."""
    listed = False
    for line in text.splitlines():
        if line.startswith(" "):
            yield ".IP \\(bu 2"
            listed = True
        elif not line or listed:
            yield ".PP"
            listed = False
        if line:
            yield _text(line.strip())


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR"


def _text(text: str) -> str:
    # A line that begins with a point is a request; the mark before it has no width.
    return f"\\&{_escaped(text)}" if text.startswith((".", "'")) else _escaped(text)


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(each, each) for each in text)
