"""The manual page: it has all that help has, and is a source that man(1) can set."""

from __future__ import annotations

import importlib
import re

import pytest

from techo._cli.commands import COMMANDS
from techo._cli.manual import manual
from techo._cli.options import Command

PAGE = manual()
REQUESTS = {"TH", "SH", "SS", "PP", "TP", "IP", "nh", "ad"}


def test_every_request_is_one_of_man_s() -> None:
    """No line of text is taken for a request, because it begins with a point or a quote."""
    found = [line.split()[0] for line in PAGE.splitlines() if line[:1] in {".", "'"}]
    assert found
    assert set(found) == {f".{name}" for name in REQUESTS}


def test_what_roff_would_change_is_escaped() -> None:
    """A hyphen stays one that can be copied, and a quote is as it was typed."""
    text = re.sub(r"\\(\(..|e|-|&|f[BR])", "", PAGE)
    lines = [line for line in text.splitlines() if not line.startswith(".")]
    assert not set("\\-'`^~") & set("".join(lines))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_whole(name: str) -> None:
    """Its section has every option with its help, every exit code and every example."""
    command: Command = importlib.import_module(f"techo._cli.{name}").COMMAND
    section = PAGE.partition(f'.SH "TECHO {name.upper()}"\n')[2].partition("\n.SH ")[0]
    text = section.replace("\\-", "-").replace("\\(aq", "'").replace("\\(ti", "~")
    for each in command.all_options:
        assert f".TP\n\\fB{each.written}\\fR\n{each.help}\n" in text
    for tag, meaning in command.exits:
        assert f".TP\n\\fB{tag}\\fR\n{meaning}\n" in text
    for _, meaning in command.examples:
        assert f"\\fR\n{meaning}\n" in f"{text}\n"
