"""Mistakes: what is nearly a command, an option, an endpoint or a fault, and what is said."""

from __future__ import annotations

import pytest

from helpers import call
from techo._cli.commands import COMMANDS

CLIENTS = ["talk", "check", "ping", "load"]


def refused(*arguments: str) -> str:
    """Run a command that must be refused in one line; return what that line says."""
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, b"", 1)
    return err.partition(": ")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pign"], "'pign' is neither a command nor an endpoint; did you mean ping? "),
        (["serve", "Laod"], "'Laod' is neither a command nor an endpoint; did you mean load? "),
        (["-q", "chekc"], "'chekc' is neither a command nor an endpoint; did you mean check? "),
        (["myhost"], "'myhost' is neither a command nor an endpoint; write myhost:8009, if "),
        (["my-host"], "'my-host' is neither a command nor an endpoint; write my-host:8009, "),
        (["--replay", "raw", "9000"], "there is no option '--replay'; did you mean --reply? "),
        (["--replay=raw"], "there is no option '--replay'; did you mean --reply? "),
        (["--verison"], "there is no option '--verison'; did you mean --version? "),
        (["-q", "ping"], "a command comes first, as in techo ping "),
        (["-z"], "there is no option '-z' "),
        (["help", "--jso"], "there is no option '--jso' "),
        (["talk", "--cout"], "there is no option '--cout' "),
        (
            ["talk", "--count"],
            "there is no option '--count'; did you mean techo ping --count? ",
        ),
        (
            ["merge", "--reply"],
            "there is no option '--reply'; did you mean techo serve --reply? ",
        ),
        (["-n", "3"], "there is no option '-n'; did you mean techo ping -n? "),
        (
            ["talk", "--rate", "3"],
            "there is no option '--rate'; did you mean techo load --rate? ",
        ),
        (["ping", "--cuont", "3"], "there is no option '--cuont'; did you mean --count? "),
        (["merge", "--jsno", "a"], "there is no option '--jsno'; did you mean --json? "),
        (
            ["--fault", "dorp=1%"],
            "argument --fault: bad fault 'dorp=1%': unknown fault 'dorp'; did you mean drop? ",
        ),
        (
            ["--fault", "xyz"],
            "argument --fault: bad fault 'xyz': unknown fault 'xyz'; there are ",
        ),
        (["check", "--skip", "bak-pressure"], "no check 'bak-pressure'; did you mean back-pre"),
        (
            ["localhost", "8009"],
            "'localhost' and '8009' are two endpoints; write localhost:8009",
        ),
        (["-q", "*", "--seed", "1", "9000"], "'*' and '9000' are two endpoints; write *:9000 "),
        (
            ["udp://[::1]", "80"],
            "'udp://[::1]' and '80' are two endpoints; write udp://[::1]:80",
        ),
        (["talk", "9000", "9001"], "'9001' is one too many "),
        (["ping", "::1:8009"], "bad endpoint '::1:8009': write [::1]:8009, or "),
        (
            ["tcp:127.0.0.1:8009"],
            "bad endpoint 'tcp:127.0.0.1:8009': write tcp://127.0.0.1:8009",
        ),
    ],
)
def test_what_was_meant_is_named(arguments: list[str], words: str) -> None:
    """One line says what is wrong and what is like it, and the exit status is 2."""
    assert refused(*arguments).startswith(words)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_host_and_a_port_are_one_argument(name: str) -> None:
    """A client that is given two says how to write them as one."""
    words = "'localhost' and '8009' are two endpoints; write localhost:8009 "
    assert refused(name, "localhost", "8009").startswith(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_knows_what_its_options_are_like(name: str) -> None:
    """An option with two letters exchanged is told which it is like."""
    assert "did you mean --help?" in refused(name, "--hlep")


@pytest.mark.parametrize("variable", ["localhost 8009", "9000 udp://localhost 8009"])
def test_a_variable_may_not_part_host_and_port_either(variable: str) -> None:
    """The server refuses them as it does arguments."""
    code, _, err = call(environment={"TECHO_ENDPOINT": variable})
    assert code == 2
    assert "localhost:8009" in err


@pytest.mark.parametrize("text", ["LOCALHOST", "localhost:1", "tcp://x.invalid", "h1.invalid"])
def test_what_may_be_a_host_is_served(text: str) -> None:
    """What is no bare word is looked up, and nobody takes it for a command."""
    code, _, err = call(text, "tcp://192.0.2.1:1")
    assert code == 2
    assert "neither a command" not in err
