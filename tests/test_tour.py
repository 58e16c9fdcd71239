"""The tour: every program prints what the chapter says, and every exercise can be solved."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
import unittest.mock
from pathlib import Path
from typing import Any

import pytest
import trio.testing

import techo
from helpers import PATIENCE
from techo._pump import pump

SOURCE = Path(techo.__path__[0])
TOUR = SOURCE / "docs" / "tour"
CHAPTER = (SOURCE / "docs" / "tour.md").read_text()
STEPS = sorted(path.name for path in TOUR.glob("step*.py"))
NUMBERS = range(1, 8)
MOST_LINES = 90
MOST_WORDS = 30


def start(path: Path) -> str:
    """Run a program as a reader does, with warnings as errors; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", path.name],
        capture_output=True,
        timeout=4 * PATIENCE,
        check=True,
        cwd=path.parent,
        text=True,
    )
    assert not done.stderr, done.stderr
    return done.stdout


def run(path: Path, *folders: Path) -> tuple[int, str]:
    """Run a program, but in this process; return its exit status and what it printed."""
    status = 0
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        unittest.mock.patch.object(sys, "path", [*map(str, folders), *sys.path]),
    ):
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as leaving:
            status = int(leaving.code or 0)
    assert not err.getvalue()
    return status, out.getvalue()


def skip_without_epoll(number: int) -> None:
    """Skip what needs Linux: the exercise on the pump."""
    if number == max(NUMBERS) and not pump.AVAILABLE:
        pytest.skip("this system has no epoll, which a pump needs")


def test_there_is_one_step_for_each_section() -> None:
    """Steps, sections, exercises and solutions have the same numbers."""
    expected = [str(number) for number in NUMBERS]
    assert re.findall(r"^## Step (\d)", CHAPTER, re.MULTILINE) == expected
    assert re.findall(r"^\*\*Exercise (\d)\.", CHAPTER, re.MULTILINE) == expected
    assert [name[4] for name in STEPS] == expected
    assert [path.stem[8:] for path in sorted(TOUR.glob("exercise*.py"))] == expected
    assert [path.stem[8:] for path in sorted(TOUR.glob("*/solution*.py"))] == expected


def test_the_folder_is_where_the_chapter_says() -> None:
    """The command for those who have no checkout prints it."""
    (code,) = re.findall(r'^python -c "(.*)"$', CHAPTER, re.MULTILINE)
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert Path(printed.strip()) == TOUR


@pytest.mark.parametrize("name", STEPS)
def test_a_step_prints_what_the_chapter_says(name: str) -> None:
    """Its output is that of the chapter, where ... stands for what differs."""
    (expected,) = re.findall(rf"```console\n\$ python {name}\n(.*?)```", CHAPTER, re.DOTALL)
    pattern = re.escape(expected).replace(re.escape("..."), ".+")
    output = start(TOUR / name)
    assert re.fullmatch(pattern, output), output


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_short(name: str) -> None:
    """It can be read at one go."""
    assert len((TOUR / name).read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("number", NUMBERS)
def test_an_exercise_is_not_solved_before_it_is_edited(number: int) -> None:
    """It says what is missing, and its exit status is 1."""
    skip_without_epoll(number)
    status, output = run(TOUR / f"exercise{number}.py")
    assert status == 1
    assert re.fullmatch(r"not yet: .+\n", output), output


@pytest.mark.parametrize("number", NUMBERS)
def test_a_solution_solves_its_exercise(number: int, tmp_path: Path) -> None:
    """Put where the reader would put it, the solution is accepted."""
    skip_without_epoll(number)
    text = (TOUR / f"exercise{number}.py").read_text()
    (name,) = re.findall(r"trio\.run\(check, (\w+)", text)
    before, check, after = text.partition("# The check. ")
    assert check
    solution = f"from solution{number} import {name}\n"
    (tmp_path / "edited.py").write_text(before + solution + check + after)
    assert run(tmp_path / "edited.py", TOUR / "solutions") == (0, "solved\n")


async def test_twelve_lines_are_an_echo_server() -> None:
    """The program in the chapter echoes."""
    (code,) = re.findall(r"```python\n(.*?)```", CHAPTER, re.DOTALL)
    assert len(code.splitlines()) == 12
    program, serving, _ = code.partition("trio.run(")
    assert serving
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102  -- it is ours
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names["echo"], server)
        await client.send_all(b"hello")
        assert await client.receive_some() == b"hello"
        await client.aclose()


def test_the_chapter_names_what_there_is() -> None:
    """Each file of techo's that it names exists, and has the definition it is named for."""
    files = set(re.findall(r"`(_\w+/\w+\.py)`", CHAPTER))
    assert len(files) > len(NUMBERS)
    assert {file for file in files if not (SOURCE / file).is_file()} == set()
    named = re.findall(r"`([A-Za-z.][A-Za-z_.]*)` in\s+`(_\w+/\w+\.py)`", CHAPTER)
    assert len(named) > len(NUMBERS)
    lost = {
        (name, file)
        for name, file in named
        for part in name.split(".")
        if not re.search(rf"\b(def|class) {part}\b|^    {part}: ", _text(file), re.MULTILINE)
    }
    assert lost == set()


def _text(file: str) -> str:
    return (SOURCE / file).read_text()


@pytest.mark.parametrize(
    "word",
    ["nursery", "cancel scope", "checkpoint", "half-close", "drain", "coordinated omission"],
)
def test_the_glossary_explains(word: str) -> None:
    """Each word of the trade that the chapter uses has an entry."""
    assert f"\n**{word}**: " in CHAPTER.partition("## Glossary")[2]


def test_drawings_fit_a_narrow_terminal() -> None:
    """In plain ASCII, 58 columns wide: `techo help` adds two."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", CHAPTER, re.DOTALL | re.MULTILINE)
    drawings = [text for language, text in blocks if not language]
    assert len(drawings) > len(NUMBERS)
    assert all(each.isascii() for each in drawings)
    assert not [line for each in drawings for line in each.splitlines() if len(line) > 58]


def test_no_sentence_is_long() -> None:
    """Who reads English as a second language gets to the end of each."""
    text = re.sub(r"```.*?```", ".", CHAPTER, flags=re.DOTALL)
    text = re.sub(r"^(#.*|)$", ".", text, flags=re.MULTILINE)
    sentences = re.split(r"[.?!:](?:\*\*)?\s", text)
    assert len(sentences) > 100
    assert not [each for each in sentences if len(each.split()) > MOST_WORDS]
