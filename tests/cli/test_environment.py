"""The environment: what is read from it, by whom, and how it is named when it is wrong."""

from __future__ import annotations

import importlib

import pytest

from helpers import call, serving
from techo._cli.commands import COMMANDS as NAMES
from techo._cli.options import Command
from techo._cli.parsing import parse

COMMANDS: dict[str, Command] = {
    name: importlib.import_module(f"techo._cli.{name}").COMMAND for name in NAMES
}
CLIENTS = ["talk", "check", "ping", "load"]
QUICK = {
    "check": ["--skip", "16-MiB", "--skip", "back-pressure", "--connections", "2"],
    "ping": ["-c", "1"],
    "load": ["-n", "5"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("text", ["", " "])
def test_empty_is_unset(name: str, text: str) -> None:
    """Of every variable of every command."""
    command = COMMANDS[name]
    variables = {each.variable: text for each in command.all_options if each.variable}
    assert vars(parse(command, [], variables)) == vars(parse(command, [], {}))


CHECKED = [
    (name, each.variable)
    for name, command in COMMANDS.items()
    for each in command.all_options
    if each.variable and not each.variable.startswith("TECHO_TLS_C")
    if each.variable
    not in {"TECHO_TLS_KEY", "TECHO_FAULT_FILE", "TECHO_UPSTREAM_FAULT_FILE", "TECHO_SKIP"}
]
"""All but the names of files and checks, which are looked at when they are used."""


@pytest.mark.parametrize(("name", "variable"), CHECKED)
def test_a_bad_variable_is_named(
    name: str, variable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it holds, in one line."""
    bad = "/nowhere/.?\x1b"
    with pytest.raises(SystemExit):
        parse(COMMANDS[name], [], {variable: bad})
    err = capsys.readouterr().err
    assert f"{variable}='/nowhere/.?\\x1b': " in err
    assert err.count("\n") == 1


def test_an_argument_spares_its_variable() -> None:
    """What is not used need not be right."""
    options = parse(COMMANDS["ping"], ["-c", "2", "8009"], {"TECHO_COUNT": "x"})
    assert options.count == 2


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    "text", ["7 9", "*:7 9", "fd:3 tls+fd:4 udp://*:0 7", " 7", "127.0.0.1:0 :7"]
)
def test_a_server_s_endpoints_break_no_client(name: str, text: str) -> None:
    """A profile for both: a client takes the first that it can connect to."""
    options = parse(COMMANDS[name], [], {"TECHO_ENDPOINT": text})
    found = options.endpoint if name == "ping" else [options.endpoint]  # it may have several
    assert [*map(str, found)] == ["tcp://127.0.0.1:7"]
    assert len(parse(COMMANDS["serve"], [], {"TECHO_ENDPOINT": text}).endpoint) > 0


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize(
    "text", ["fd:3 tls+fd:4", "127.0.0.1:0 *:0", "8009 x: y", "localhost 8009"]
)
def test_a_variable_that_no_client_can_use_is_named(
    name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it holds."""
    with pytest.raises(SystemExit):
        parse(COMMANDS[name], [], {"TECHO_ENDPOINT": text})
    err = capsys.readouterr().err
    assert err.startswith(f"techo {name}: TECHO_ENDPOINT='{text}': ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", CLIENTS)
def test_a_server_s_certificate_is_no_client_s(name: str) -> None:
    """A profile with TECHO_TLS_CERT breaks no client, not even of a tls endpoint."""
    server = {"TECHO_TLS_CERT": "/nowhere", "TECHO_TLS_KEY": "/nowhere"}
    options = parse(COMMANDS[name], ["tls://127.0.0.1:1"], server)
    assert (options.tls_cert, options.tls_key) == (None, None)
    own = {"TECHO_TLS_CLIENT_CERT": "a", "TECHO_TLS_CLIENT_KEY": "b"}
    options = parse(COMMANDS[name], ["tls://127.0.0.1:1"], own)
    assert (options.tls_cert, options.tls_key) == ("a", "b")


@pytest.mark.parametrize("name", ["serve", "check", "ping", "load", "merge"])
def test_a_variable_that_nobody_knows_is_one_warning(name: str, port: str) -> None:
    """All of them are on one line, with what may have been meant."""
    environment = {
        "TECHO_TIMOUT": "1",
        "TECHO_80": "10.0.0.1",
        "TECHO_EMPTY": "",
        "TECHO_TIMEOUT": "1",
        "TECHO_IDLE_TIMEOUT": "60",
        "TECHO_TRACEBACK": "1",
    }
    place = {"serve": "192.0.2.1:1", "merge": "/nowhere"}.get(name, port)
    err = call(name, *QUICK.get(name, []), place, environment=environment)[2]
    warnings = [line for line in err.splitlines() if "warning" in line]
    assert warnings == [
        "techo: warning: no command knows TECHO_80, TECHO_TIMOUT; did you mean TECHO_TIMEOUT?"
    ]


def test_variables_of_other_commands_are_no_warning(port: str) -> None:
    """A profile may set options of all of them."""
    environment = {
        each.variable: "x"
        for command in COMMANDS.values()
        for each in command.all_options
        if each.variable
    }
    own = {each.variable for each in COMMANDS["ping"].all_options}
    others = {name: text for name, text in environment.items() if name not in own}
    assert others
    assert call("ping", "-c", "1", port, environment=others)[2] == ""


def test_forced_colour_moves_no_cursor(port: str) -> None:
    """In a pipe there are colours in the report, and no bar on standard error."""
    environment = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    code, out, err = call("load", "-n", "20", port, environment=environment)
    assert (code, err) == (0, "")
    assert b"\x1b[1m" in out
    left = out.replace(b"\x1b[1m", b"").replace(b"\x1b[0m", b"")
    assert b"\x1b" not in left


@pytest.mark.parametrize("fault", ["drop=10%", "delay=0.1s,every=3,from=1k", "reorder=5%/2"])
def test_a_fault_is_called_what_was_typed(fault: str) -> None:
    """Not by the value that it was read as."""
    code, _, err = call("--fault", fault, "tcp://127.0.0.1:0", "udp://127.0.0.1:0")
    assert code == 2
    assert f"fault {fault} " in err
    assert "probability=1.0" not in err


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (["load", "-r", "2e9"], "'2e9'"),
        (["check", "--skip", r"a\b"], r"'a\b'"),
        (["ping", "-s", "it's"], "'it's'"),
        (["ping", r"tcp://a\b:1"], r"'tcp://a\b:1'"),
        (["serve", "--reply", '"'], "'\"'"),
        (["load", "--fail-if", r"p99>\5"], r"'p99>\5'"),
        (["merge", r"no\where"], r"'no\where'"),
        (["talk", "--tls-ca", r"no\where", "tls://127.0.0.1:1"], r"'no\where'"),
    ],
)
def test_messages_show_what_was_typed(arguments: list[str], typed: str) -> None:
    """Backslashes and quotes as they are, and numbers in their own spelling."""
    code, _, err = call(*arguments)
    assert code == 2
    assert typed in err


def test_a_bad_variable_of_another_command_is_none_of_ours() -> None:
    """A server starts, whatever the variables of its clients say."""
    environment = {"TECHO_SIZE": "x", "TECHO_RATE": "x", "TECHO_FAIL_IF": "x"}
    with serving(environment=environment) as process:
        assert process.finish()[0] == 0
