"""README and chapters as tests see them: blocks of code, commands, sentences, links."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

import techo
from techo._cli.commands import COMMANDS, DEFAULT

README: Final = Path(__file__).parent.parent / "README.md"
DOCS: Final = Path(techo.__path__[0]) / "docs"
"""What is installed, since that is what users have."""

CHAPTERS: Final = sorted(DOCS.glob("*.md"))


def chapter(name: str) -> str:
    """Return the text of a chapter."""
    return (DOCS / f"{name}.md").read_text()


RECIPES: Final = sorted((DOCS / "recipes").iterdir())


def recipe(name: str, places: Mapping[str, str]) -> str:
    """Return the text of a recipe, with other values in place of some of its own."""
    text = (DOCS / "recipes" / name).read_text()
    for old, new in places.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text


@attrs.frozen
class Block:
    """A block of code."""

    language: str
    code: str
    before: str
    """The line that introduces it."""
    shown: str
    """What the block behind it says that it prints, if one does."""


def blocks(text: str) -> list[Block]:
    """Return the blocks of code, in order."""
    found = list(re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    result = list[Block]()
    for number, match in enumerate(found):
        before = text[: match.start()].strip().splitlines()[-1]
        following = found[number + 1] if number + 1 < len(found) else None
        shown = following[2] if following is not None and following[1] == "text" else ""
        result.append(Block(match[1], match[2], before, shown))
    return result


@attrs.frozen
class PytestFile:
    """A block of code that is a whole file for pytest."""

    code: str
    packages: frozenset[str]
    """What its first line says that it needs, besides techo."""


def pytest_files(text: str) -> list[PytestFile]:
    """Return the blocks that are files for pytest; each says what it needs."""
    found = list[PytestFile]()
    for block in blocks(text):
        if block.language == "python" and "def test_" in block.code:
            first = re.fullmatch(r"# Needs (.+)\.", block.code.partition("\n")[0])
            assert first, f"a test does not say what it needs:\n{block.code}"
            found.append(PytestFile(block.code, frozenset(re.split(r", | and ", first[1]))))
    return found


def sentences(text: str) -> Iterator[str]:
    """Return the sentences of the prose; an item and a cell of a table are their own."""
    text = re.sub(r"^```.*?^```$", "\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    for part in re.split(r"\n\n|\n(?=[-#|]|\d\.)|(?<=[^\\])\|", text):
        yield from re.split(r"(?<=[.:;?!])\s", " ".join(part.split()))


def command_lines(block: Block) -> list[str]:
    """Return the commands of a block for a shell, without what is said of them."""
    lines = block.code.splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.partition(" # ")[0].strip() for line in lines if line]


EXPLAINING: Final = [path.stem for path in CHAPTERS if path.stem != "tour"]
"""All chapters but that which tests/test_tour.py follows."""

EXAMPLE_COMMANDS: Final = [
    (name, line)
    for name in EXPLAINING
    for block in blocks(chapter(name))
    if block.language in {"sh", "console"}
    for line in command_lines(block)
]
"""The commands of these, each with the name of its chapter."""


def techo_in(line: str) -> tuple[str, list[str]] | None:
    """Return which of techo's commands a line runs, and its arguments; None if none."""
    for part in re.split(r"\|\||&&|[|;&]", _without_quoted(line)):
        words = shlex.split(part.replace("\0", "|").replace("\1", ";").replace("\2", "&"))
        if words[:1] == ["systemd-socket-activate"]:
            words = words[words.index("techo") :]
        if words[:1] == ["techo"]:
            named = words[1:2] and words[1] in COMMANDS
            return (words[1], words[2:]) if named else (DEFAULT, words[1:])
    return None


def _without_quoted(line: str) -> str:
    """Return a line in which what is quoted has nothing that a shell would take for its own."""

    def hidden(match: re.Match[str]) -> str:
        return match[0].replace("|", "\0").replace(";", "\1").replace("&", "\2")

    return re.sub(r"'[^']*'|\"[^\"]*\"", hidden, line)


def is_local(line: str) -> bool:
    """Return whether a command names no machine but this one."""
    return not re.search(r"example|\*:|--fleet", line)


def make_program(path: Path, text: str) -> None:
    """Write a program that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make_environment(folder: Path) -> dict[str, str]:
    """Make what setting up makes in a folder, without a network; return the environment.

    `pip` and `nox` only write down what they are asked for.
    """
    programs = folder / ".venv" / "bin"
    python = shlex.quote(sys.executable)
    for name in ("python", "python3"):
        make_program(programs / name, f'#!/bin/sh\nexec {python} -W error "$@"\n')
    for name in ("techo", "pytest"):
        make_program(programs / name, f'#!/bin/sh\nexec {python} -m {name} "$@"\n')
    for name in ("pip", "nox"):
        make_program(programs / name, f'#!/bin/sh\necho {name} "$@" >>asked.txt\n')
    make_program(programs / "activate", f'PATH="{programs}:$PATH"\n')
    system = folder / "system"
    make_program(system / "python3", '#!/bin/sh\n[ "$*" = "-m venv .venv" ]\n')
    path = f"{system}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "TECHO_TRACEBACK": "1"}
