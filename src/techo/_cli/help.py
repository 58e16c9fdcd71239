"""The help command: shows the chapters that techo has, and the help of its commands."""

from __future__ import annotations

import argparse
import importlib
import io
from collections.abc import Iterator, Mapping
from typing import Final

from techo._cli.command_page import page_of
from techo._cli.commands import COMMANDS, SUMMARIES
from techo._cli.errors import refuse
from techo._cli.options import Command, option
from techo._cli.output import print_lines
from techo._cli.page import columns, listed, section, wrap
from techo._cli.readers import Form
from techo._printable import did_you_mean, quoted

_SUFFIX: Final = ".md"

_RECIPES: Final = "recipes"
"""The folder of files to be copied, and what their topics begin with."""

_DESCRIPTION = """\
Without a topic, all of them are listed. A topic is a chapter, or a command, whose help comes
before its chapter, or a file of the chapter recipes, which is printed as it is. On a terminal
the pager shows it: PAGER, or less, or more. Nothing is coloured where NO_COLOR is set, or TERM
is dumb."""

_EXAMPLES: Final = (
    ("techo help", "all topics"),
    ("techo help tour", "a chapter"),
    ("techo help recipes/haproxy.cfg > haproxy.cfg", "a file to begin with"),
)

_EXITS: Final = (("0", "it was shown"), ("2", "there is no such topic, or wrong usage"))


def help_(options: argparse.Namespace) -> int:
    """Show a topic, or the list of all; return the exit code."""
    chapters = read_chapters()
    topic = options.topic
    if topic is None:
        print_lines(*_overview(chapters))
        return 0
    recipes = read_recipes()
    if topic not in chapters and topic not in COMMANDS and topic not in recipes:
        near = did_you_mean(topic.lower(), [*chapters, *COMMANDS, *recipes])
        return refuse(f"there is no topic {quoted(topic)}{near or '; techo help lists all'}")

    def make(colours: bool) -> str:  # noqa: FBT001  -- as a pager's text is asked for
        if topic in recipes:
            return recipes[topic]
        found = ""
        if topic in COMMANDS:
            command: Command = importlib.import_module(f"techo._cli.{topic}").COMMAND
            found = page_of(command) + "\n"
        if topic in chapters:
            found += "\n" * bool(found) + render(chapters[topic], colours=colours)
        return found

    from techo._cli.pager import show

    show(make)
    return 0


def read_chapters() -> Mapping[str, str]:
    """Return the Markdown texts of all chapters, by their names."""
    import importlib.resources

    folder = importlib.resources.files("techo").joinpath("docs")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(_SUFFIX))
    return {
        name.removesuffix(_SUFFIX): folder.joinpath(name).read_text("utf-8") for name in names
    }


def read_recipes() -> Mapping[str, str]:
    """Return the texts of all files that the chapter on recipes is about, by their topics."""
    import importlib.resources

    folder = importlib.resources.files("techo").joinpath("docs", _RECIPES)
    files = sorted(folder.iterdir(), key=lambda each: each.name)
    return {f"{_RECIPES}/{each.name}": each.read_text("utf-8") for each in files}


def title_of(chapter: str) -> str:
    """Return what a chapter is about: its first line."""
    return chapter.lstrip().partition("\n")[0].strip("# ")


def _overview(chapters: Mapping[str, str]) -> Iterator[str]:
    width = columns()
    yield from wrap("techo help [TOPIC]", width, "Usage: ")
    titles = [(name, title_of(text)) for name, text in chapters.items()]
    yield from section("Chapters", listed(titles, width))
    yield from section("Commands, with their options", listed([*SUMMARIES.items()], width))


def render(chapter: str, *, colours: bool) -> str:
    """Return a chapter as a terminal shows it."""
    from rich.console import Console
    from rich.theme import Theme

    from techo._cli.chapters import Chapter

    file = io.StringIO()
    console = Console(
        file=file,
        width=columns(),
        force_terminal=colours,
        no_color=not colours,
        color_system="standard" if colours else None,
        highlight=False,
        # Rich's own is on black, wherever it stands.
        theme=Theme({"markdown.code": "bold"}),
    )
    console.print(Chapter(chapter, code_theme="ansi_dark", hyperlinks=False))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


_TOPIC: Final = Form(
    "TOPIC", str, choices=lambda: sorted({*read_chapters(), *COMMANDS, *read_recipes()})
)

COMMAND: Final = Command(
    "help",
    "help [TOPIC]",
    _DESCRIPTION,
    [option("topic", _TOPIC, "what to show", shown="the list of all", named="")],
    help_,
    examples=_EXAMPLES,
    exits=_EXITS,
)
