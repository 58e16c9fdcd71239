"""Options of all commands: how help describes them, and where their values come from."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import techo
from helpers import call
from techo._cli.commands import COMMANDS as NAMES
from techo._cli.options import Command, Option, option, switch
from techo._cli.parsing import parse
from techo._cli.readers import (
    MODE,
    NUMBER,
    RATE,
    SEED,
    SIZE,
    TIME,
    TIME_OR_NONE,
    choice,
    count_form,
    size_form,
    time_form,
)
from techo._validation import COUNT, SECONDS_ABOVE_0

COMMANDS: list[Command] = [
    importlib.import_module(f"techo._cli.{name}").COMMAND for name in NAMES
]
REQUIRED = {
    ("proxy", "places"),
    ("merge", "files"),
    ("compare", "files"),
    ("history", "files"),
    ("completion", "shell"),
}
OPTIONS = [(each.name, found) for each in COMMANDS for found in each.all_options]


def test_help_waits_for_no_import_that_only_running_needs() -> None:
    """No command's help loads trio, rich or matplotlib."""
    code = f"""
import contextlib, io, sys
from techo._cli import main
for name in {NAMES!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([name, "--help"])
sys.exit(" ".join({{"trio", "rich", "matplotlib"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("command", "each"), OPTIONS, ids=[f"{name} {each.dest}" for name, each in OPTIONS]
)
def test_help_says_what_an_option_takes_by_default(command: str, each: Option) -> None:
    """The help of an option that takes a value ends in its default, with the unit."""
    assert each.help
    if each.form is not None and (command, each.dest) not in REQUIRED:
        assert "default: " in each.help
        assert each.help.endswith(")")
        assert each.form.metavar


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_names_every_option_and_the_exit_status(command: Command) -> None:
    """It is printed to standard output, and is no error."""
    code, out, err = call(command.name, "--help")
    assert (code, err) == (0, "")
    text = out.decode()
    for each in command.all_options:
        assert all(name in text for name in each.names if not each.positional)
    assert "\nExit status:\n  0  " in text
    assert (command.variables.split() or [""])[0] in text


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (TIME.read, "0.5", 0.5),
        (TIME.read, "1e3", 1000.0),
        (TIME.read, "500ms", 0.5),
        (TIME.read, "2m", 120.0),
        (TIME_OR_NONE.read, "0", 0.0),
        (NUMBER.read, "007", 7),
        (SIZE.read, "64", 64),
        (SIZE.read, "64k", 65536),
        (RATE.read, "0.5", 0.5),
        (RATE.read, "100/s", 100.0),
        (MODE.read, "660", 0o660),
        (SEED.read, "-1", -1),
        (choice("a", "b").read, "b", "b"),
        (count_form(COUNT.or_off()).read, "off", None),
        (count_form(COUNT.or_off()).read, "5", 5),
        (size_form(COUNT.or_off()).read, "off", None),
        (time_form(SECONDS_ABOVE_0.or_off(float("inf"))).read, "off", float("inf")),
    ],
)
def test_values_are_read(read: Callable[[str], Any], text: str, value: object) -> None:
    """A text becomes the value that it stands for."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        (TIME.read, "0", "'0' is not a number of seconds above 0"),
        (TIME.read, "0ms", "'0ms' is not a number of seconds above 0"),
        (TIME.read, "nan", "'nan' is not a time, such as 500ms, 2s or 1m"),
        (TIME.read, "off", "'off' is not a time"),
        (TIME.read, "inf", "'inf' is not a time"),
        (TIME.read, "1e18", "'1e18' is not below 1e18"),
        (TIME.read, "1M", "'1M' is not a time, such as 500ms, 2s or 1m; M is for sizes"),
        (TIME_OR_NONE.read, "-1", "'-1' is not a time"),
        (SIZE.read, "0k", "'0k' is not a whole number from 1"),
        (SIZE.read, "1.5", "'1.5' is not a whole number of bytes"),
        (SIZE.read, "1m", "'1m' is not a size, such as 1000, 64k or 1M; m is a minute"),
        (NUMBER.read, "1.5", "'1.5' is not a whole number from 1"),
        (NUMBER.read, "1_000", "'1_000' is not a whole number from 1"),
        (NUMBER.read, "", "'' is not a whole number from 1"),
        (RATE.read, "fast", "'fast' is not a rate, such as 1000 or 1000/s"),
        (MODE.read, "888", "'888' is not permissions in octal digits"),
        (SEED.read, "x", "'x' is not a whole number"),
        (choice("a", "b").read, "c", "'c' is not one of a, b"),
        (count_form(COUNT.or_off()).read, "0", "'0' is not a whole number from 1, or off"),
        (count_form(COUNT).read, "9" * 5000, "'999"),
        (time_form(SECONDS_ABOVE_0.or_off()).read, "x", "'x' is not a time, such as 500ms, 2s"),
        (time_form(SECONDS_ABOVE_0.or_off()).read, "5d", "'5d' is not a time"),
    ],
)
def test_a_bad_value_is_named(read: Callable[[str], Any], text: str, words: str) -> None:
    """The error has the text as it was given, and what would be right."""
    with pytest.raises(ValueError, match="is not") as caught:
        read(text)
    assert str(caught.value).startswith(words)


TRIAL = Command(
    "trial",
    "",
    "",
    [
        option("names", choice("a", "b", "c"), "", repeatable=True, shown="none"),
        option("-t --some-time", TIME, "how long", default=1.5),
        option("--tag", choice("x", "y"), "a tag", repeatable=True, shown="none"),
        switch("--quiet", "say less"),
        switch("--no-guard", "go without", default=True),
    ],
    lambda _: 0,
    variables="TECHO_SOME_TIME",
)


@pytest.mark.parametrize(
    ("arguments", "environment", "values"),
    [
        ([], {}, {"names": (), "some_time": 1.5, "tag": ()}),
        ([], {"TECHO_SOME_TIME": "3", "TECHO_NAMES": "a  b"}, {"some_time": 3}),
        ([], {"TECHO_NAMES": "a  b"}, {"names": ["a", "b"]}),
        (["c"], {"TECHO_NAMES": "a b"}, {"names": ["c"], "given": ["names"]}),
        (["-t", "2"], {"TECHO_SOME_TIME": "3"}, {"some_time": 2, "given": ["some_time"]}),
        (["-t", "1.5"], {"TECHO_SOME_TIME": "3"}, {"some_time": 1.5}),
        (["--tag", "x", "a", "--tag", "y"], {}, {"tag": ["x", "y"], "names": ["a"]}),
        (["--tag", "x"], {"TECHO_TAG": "y"}, {"tag": ["x"]}),
        ([], {"TECHO_TAG": "y"}, {"tag": ["y"], "given": []}),
        ([], {"TECHO_QUIET": "yes", "TECHO_GUARD": "no"}, {"quiet": False, "guard": True}),
        (["--quiet", "--no-guard"], {}, {"quiet": True, "guard": False}),
    ],
)
def test_arguments_win_over_variables_and_these_over_defaults(
    arguments: list[str], environment: dict[str, str], values: dict[str, object]
) -> None:
    """`given` has what the arguments set, even if it is the default."""
    found = vars(parse(TRIAL, arguments, environment))
    assert {name: found[name] for name in values} == values


def test_a_bad_variable_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The line has the variable, its value and what would be right; the exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        parse(TRIAL, [], {"TECHO_SOME_TIME": "soon"})
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "techo trial: TECHO_SOME_TIME='soon': 'soon' is not a time, such as 500ms, 2s or 1m "
        "(see techo trial --help)\n"
    )


def test_the_limits_of_the_command_line_are_those_of_the_library() -> None:
    """Without options, serve takes what `Limits` has by default."""
    options = parse(COMMANDS[0], [], {})
    defaults = techo.Limits()
    for name, value in attrs.asdict(defaults).items():
        assert getattr(options, name) == value


@pytest.mark.parametrize(
    "name",
    [
        "serve",
        "talk",
        "check",
        "ping",
        "load",
        "capacity",
        "merge",
        "compare",
        "mesh",
        "history",
    ],
)
def test_what_was_typed_does_nothing_to_the_terminal(name: str) -> None:
    """Escapes in what no command knows are shown, and not obeyed."""
    code, out, err = call(name, "--\x1b[31mno-such")
    assert (code, out) == (2, b"")
    assert "\\x1b[31mno-such" in err
    assert "\x1b" not in err
