"""Help: its pages fit their terminals, say what can be done, and their examples work."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from comparisons import write_sides
from helpers import PATIENCE, call, serving, serving_both
from histories import BEGIN, span, write
from techo._cli import commands, page
from techo._cli.command_page import page_of
from techo._cli.options import Command
from techo._cli.parsing import parse

COMMANDS: list[Command] = [
    importlib.import_module(f"techo._cli.{name}").COMMAND for name in commands.COMMANDS
]
by_name = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)

EXAMPLES = list(
    dict.fromkeys(
        line
        for examples in (commands.EXAMPLES, *(command.examples for command in COMMANDS))
        for line, _ in examples
    )
)


def test_the_first_page_is_one_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has at most 40 lines of 80 columns, with every command and three examples."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call("--help")
    assert (code, err) == (0, "")
    lines = out.decode().splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    for name in commands.COMMANDS:
        assert [line for line in lines if line.startswith(f"  {name} ")]
    assert [line for line in lines if line.startswith("  techo ")]
    assert len(commands.EXAMPLES) == 3
    assert call("-h") == (0, out, "")


def test_every_command_is_in_a_group_of_the_first_page() -> None:
    """Each is in one group, and none is forgotten."""
    grouped = [name for names in commands.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(commands.COMMANDS)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@by_name
def test_help_is_as_wide_as_the_terminal(
    command: Command, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer, and no word is broken or lost."""
    monkeypatch.setenv("COLUMNS", str(width))
    narrow = page_of(command)
    for line in narrow.splitlines():
        assert len(line) <= width or len(line.split()) == 1 or line.startswith("      "), line
    monkeypatch.setenv("COLUMNS", "100")
    assert sorted(narrow.split()) == sorted(page_of(command).split())


def test_a_page_is_as_wide_as_its_terminal_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without COLUMNS it is 80 columns where there is no terminal, and never too many."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((70, 24)))
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert page.columns() == 70
    for text, width in [("50", 50), ("500", 100), ("0", 70), ("x", 70), ("5", 20)]:
        monkeypatch.setenv("COLUMNS", text)
        assert page.columns() == width


@by_name
def test_every_command_has_examples(command: Command) -> None:
    """There are two or three, and help shows them all."""
    assert 2 <= len(command.examples) <= 3
    assert all(line in page_of(command) for line, _ in command.examples)


@by_name
def test_no_sentence_of_help_is_long(command: Command) -> None:
    """None has more than 30 words."""
    texts = [command.summary, *command.description.split("\n\n"), *command.notes.split("\n\n")]
    texts += [each.help for each in command.all_options]
    for text in texts:
        if "\n  " in text:
            continue  # a list
        for sentence in re.split(r"(?<=[.:;?])\s", text):
            assert len(sentence.split()) <= 30, sentence


def test_no_sentence_of_the_first_page_is_long() -> None:
    """None has more than 30 words."""
    for sentence in re.split(r"(?<=[.:;?])\s", f"{commands.ABOUT}\n\n{commands.MORE}"):
        assert len(sentence.split()) <= 30


def is_local(line: str) -> bool:
    """Whether an example names no machine but this one."""
    return "example" not in line and "*:" not in line


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_parser_takes_every_example(line: str) -> None:
    """Every techo command in it is one that would be run."""
    parts = [shlex.split(part.partition(" > ")[0]) for part in line.split(" | ")]
    ours = [words for words in parts if words[0] == "techo"]
    assert ours
    for words in ours:
        name = words[1] if len(words) > 1 and words[1] in commands.COMMANDS else ""
        command = {each.name: each for each in COMMANDS}[name or commands.DEFAULT]
        assert parse(command, words[2 if name else 1 :], {}).given is not None


def is_server(line: str) -> bool:
    """Whether an example serves until it is stopped."""
    words = line.split()
    others = {*commands.COMMANDS} - {"serve", "proxy"}
    return words[0] == "techo" and (len(words) < 2 or words[1] not in others)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as examples expect it: a `techo` to run, reports of load, a history."""
    folder = tmp_path_factory.mktemp("examples")
    techo = folder / "techo"
    techo.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m techo "$@"\n')
    techo.chmod(0o755)
    with serving() as process:
        _, report, _ = call("load", "--json", "-n", "5", str(process.port))
    for name in ("a.json", "b.json"):
        (folder / name).write_bytes(report)
    write(str(folder / "watch.db"), [span(BEGIN, 5000)])
    write_sides(folder)
    return folder


@pytest.fixture(scope="module")
def everything() -> Iterator[int]:
    """The port of a server of TCP and UDP, which examples ask."""
    with serving_both("-q") as process:
        yield process.port


@pytest.mark.parametrize("line", [line for line in EXAMPLES if is_local(line)])
def test_examples_work(
    line: str, folder: Path, everything: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that names only this machine does what it should; ports are free, times short.

    What has a pipe, and what serves, are processes.
    """
    port = 0 if is_server(line) else everything
    line = re.sub(r"\b(8009|8010|9000)\b", str(port), line)
    line = re.sub(r"\blocalhost\b(?!:)", f"localhost:{port}", line)
    line = re.sub(r"-d \d+", "-d 0.2", line).replace("-n 10000 ", "-n 1000 ")
    line = line.replace("--reconnect-every 1 ", "--reconnect-every 1 -n 500 ")
    environment = {"TECHO_ENDPOINT": f"127.0.0.1:{port}"}
    if not is_server(line) and " | " not in line:
        monkeypatch.chdir(folder)
        (folder / "watch.toml").write_text(f'[[target]]\nendpoint = "{everything}"\n')
        words = shlex.split(re.sub(r"--for \w+", "--for 0.3", line).partition(" > ")[0])
        code, printed, said = call(*words[1:], environment=environment)
        assert code == 0, said
        assert printed
        return
    environment = os.environ | environment | {"PATH": f"{folder}:{os.environ['PATH']}"}
    with subprocess.Popen(
        ["sh", "-c", f"exec {line}" if is_server(line) else line],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as popen:
        try:
            if is_server(line):
                assert popen.stdout is not None
                assert popen.stdout.readline().startswith(b"listening on ")
                popen.send_signal(signal.SIGTERM)
            _, err = popen.communicate(timeout=PATIENCE)
        finally:
            popen.kill()
    assert popen.returncode == 0, err
