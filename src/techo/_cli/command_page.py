"""The page of help that one command has: what it does, examples, options in groups, notes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from techo._cli.options import ENDPOINT, PINGED, Command, Group, Option, flat
from techo._cli.page import Row, columns, listed, paragraphs, section, wrap
from techo._quantities import HELP

_EXAMPLE: Final = 48
"""Columns of an example at the most, to have what it does beside it."""

ALWAYS: Final[Sequence[Row]] = (
    ("-h, --help", "print this and exit"),
    ("--version", "print versions and exit"),
)
"""The options of every command."""


def page_of(command: Command) -> str:
    """Return the page, as wide as the terminal."""
    return "\n".join(_lines(command, columns()))


def _lines(command: Command, width: int) -> Iterator[str]:
    yield from wrap(f"techo {command.usage}", width, "Usage: ")
    yield ""
    yield from wrap(sentence(command.summary), width)
    if command.description:
        yield ""
        yield from paragraphs(command.description, width)
    if command.examples:
        yield from section("Examples", listed(command.examples, width, _EXAMPLE))
    for title, options in titled(command):
        rows = [(each.written, each.help) for each in options]
        if title == "Options":
            rows += ALWAYS
        if rows:
            yield from section(title, listed(rows, width))
    if command.notes:
        yield ""
        yield from paragraphs(command.notes, width)
    yield from section("Exit status", listed(command.exits, width))
    if explained := [f"  {text}" for text in values(command)]:
        yield from section("Values", paragraphs("\n".join(explained), width))
    if command.variables:
        yield ""
        yield from wrap(environment(command), width)
    if command.chapters:
        yield ""
        yield from wrap(see_also(command), width)


def sentence(summary: str) -> str:
    """Return a summary as a sentence."""
    return f"{summary[:1].upper()}{summary[1:]}."


def titled(command: Command) -> Iterator[tuple[str, Sequence[Option]]]:
    """Return the groups of options, with their titles, in the order of help."""
    alone = [each for each in command.options if isinstance(each, Option)]
    yield "Arguments", [each for each in alone if each.positional]
    yield "Options", [each for each in alone if not each.positional]
    for each in command.options:
        if isinstance(each, Group):
            yield each.title, [*flat(each.options)]


def values(command: Command) -> Iterator[str]:
    """Return how the values are written that the help of options names."""
    texts = "".join(f"{each.written} {each.help} " for each in command.all_options)
    words = set(re.findall("[A-Z]+", texts + command.notes))
    return (text for word, text in HELP.items() if word in words)


def see_also(command: Command) -> str:
    """Return what help says of the chapters that have more."""
    return f"More: {', '.join(f'techo help {each}' for each in command.chapters)}."


def environment(command: Command) -> str:
    """Return what help says of the variables that set options."""
    text = (
        "Options that take a value can also be set in the environment, such as "
        f"{command.variables}. An option on the command line wins; an empty variable is none."
    )
    if any(each in (ENDPOINT, PINGED) for each in command.all_options):
        text += " TECHO_TLS_... apply to tls endpoints and are ignored for others."
    return text
