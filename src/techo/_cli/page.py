"""Pages of help: how wide they are, and how paragraphs and lists are laid out on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from techo._cli import commands

_USUAL: Final = 80
"""Columns where nothing says how many there are."""

_WIDEST: Final = 100
"""Columns; nobody reads longer lines with ease."""

_NARROWEST: Final = 20
"""Columns below which a terminal has to wrap."""

_LEFT: Final = 30
"""Columns of a list's left side at the most: an option's name, and the name of its value."""

_RIGHT: Final = 24
"""Columns of its right side at the least."""

_GAP: Final = 4
"""Columns before and behind the left side."""

Row: TypeAlias = tuple[str, str]


def columns() -> int:
    """Return how wide a page is: as COLUMNS says, or the terminal, or 80 columns."""
    wanted = os.environ.get("COLUMNS", "")
    found = int(wanted) if wanted.isascii() and wanted.isdigit() else 0
    if not found:
        try:
            found = os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError):  # it is no terminal, or no file
            found = _USUAL
    return min(max(found or _USUAL, _NARROWEST), _WIDEST)


def wrap(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Return a text in lines of `width` columns, broken between words only.

    The first begins with `first`, the others with `rest`, or with as many blanks.
    """
    rest = " " * len(first) if rest is None else rest
    lines, line = list[str](), first
    for word in text.split():
        if line not in {first, rest} and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = rest
        line += word if line in {first, rest} else f" {word}"
    return [*lines, line]


def paragraphs(text: str, width: int) -> Iterator[str]:
    """Return the lines of paragraphs; what is indented in the text stays a line of its own."""
    joined = list[str]()
    for line in text.splitlines():
        if line and joined and joined[-1] and " " not in {line[0], joined[-1][0]}:
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    for line in joined:
        blanks = line[: len(line) - len(line.lstrip())]
        yield from wrap(line, width, blanks, blanks and blanks + "  ")


def listed(rows: Sequence[Row], width: int, widest: int = _LEFT) -> Iterator[str]:
    """Return the lines of a list: each left side beside what is said of it, or above that."""
    widest = min(widest, max(width - _GAP - _RIGHT, 2))
    fitting = [len(name) for name, _ in rows if len(name) <= widest]
    left = max(fitting) if 2 * len(fitting) > len(rows) else 2
    for name, text in rows:
        indented = f"  {name}"
        if len(name) > left:
            yield from wrap(indented, width, "  ", "      ")
            indented = ""
        yield from wrap(text, width, f"{indented:{left + _GAP}}")


def section(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Return the lines of a part of the page, and an empty one before it."""
    yield ""
    yield f"{title}:"
    yield from lines


def first_page() -> str:
    """Return the page that `techo --help` shows."""
    width = columns()
    return "\n".join(_first_page(width))


def _first_page(width: int) -> Iterator[str]:
    yield from wrap(commands.USAGE, width, "Usage: ")
    yield ""
    yield from wrap(commands.ABOUT, width)
    for title, names in commands.GROUPS.items():
        summaries = [(f"{name:10}", commands.SUMMARIES[name]) for name in names]
        yield from section(title, listed(summaries, width))
    yield from section("Examples", listed(commands.EXAMPLES, width, width))
    yield ""
    yield from paragraphs(commands.MORE, width)
    yield from section("To read more", listed(commands.WHERE, width, width))
