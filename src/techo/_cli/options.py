"""Options: from arguments and TECHO_ variables to checked values, and the help about them."""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import attrs

from techo._server.limits import Limits
from techo.endpoint import FORMS, Endpoint

T = TypeVar("T")

_ALL_PERMISSIONS = 0o777

_SERVE = """\
Serve echoes until told to stop: every chunk that arrives is sent back.

Other commands: talk, a client that sends what it reads and prints what comes back
(%(prog)s talk --help)."""

_SERVE_MORE = """\
What takes a value can be set in the environment too, as TECHO_ and its name, such as
TECHO_IDLE_TIMEOUT=5 or TECHO_ENDPOINT="8009 9000". What is given here wins.

Standard output: a line "listening on ENDPOINT" for each socket. Standard error: the log.
Given no endpoint, sockets that systemd passes are served. It is told when all is ready.
SIGTERM and SIGINT drain the server: it stops accepting and ends each connection when nothing
is owed; a second one stops it at once. SIGUSR1 prints the statistics.
Exit status: 0 drained, 1 connections had to be cut, 2 wrong usage or nothing to listen on,
130 (by SIGINT) after Ctrl-C."""

_TALK = """\
Send what is read from standard input and print what comes back.

On a terminal: a prompt, a line in, its reply out; an empty line or Ctrl-D ends it. In a pipe:
everything as it comes, until the input ends and all of it has come back.

Over udp, unixgram and unixpacket a line is a message. What no reply comes to, over udp and
unixgram, is told after a second, and the talk goes on."""

_TALK_MORE = """\
What takes a value can be set in the environment too, as TECHO_ENDPOINT or TECHO_TLS_CA. What
is given here wins; TECHO_TLS_... count for tls endpoints and are ignored for others.

Exit status: 0 all came back, 1 the server cut it short or owed a reply, 2 wrong usage, a line
too long for a message, or no connection."""


class _Parser(argparse.ArgumentParser):
    source = ""
    """What to name in an error besides the option."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {self.source}{message} (see {self.prog} --help)\n")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """Read the arguments of one command; `command` says which it is.

    `given` lists what the arguments themselves change, whatever the environment says.

    Raises:
        SystemExit: with 2 after one line about what is wrong, or with 0 after help.
    """
    if arguments and arguments[0] == "talk":
        parser, arguments = _talk_parser(), arguments[1:]
    else:
        parser = _serve_parser()
        arguments = arguments[1:] if arguments and arguments[0] == "serve" else arguments
    # Before the environment: --help does not wait for a sane one.
    given = vars(parser.parse_intermixed_args(arguments))
    defaults = vars(parser.parse_args([]))
    _apply_environment(parser, environment)
    options = parser.parse_intermixed_args(arguments)
    options.given = sorted(name for name in given if given[name] != defaults[name])
    return options


def _new_parser(command: str, description: str, epilog: str) -> _Parser:
    parser = _Parser(
        prog="techo" if command == "serve" else f"techo {command}",
        usage="%(prog)s "
        + (
            "[serve] [OPTION | ENDPOINT]..." if command == "serve" else "[OPTION]... [ENDPOINT]"
        ),
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command)
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        dest=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
        help="print versions and exit",
    )
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        techo, trio = map(importlib.metadata.version, ("techo", "trio"))
        print(f"techo {techo}, trio {trio}, Python {platform.python_version()}")
        parser.exit()


def _talk_parser() -> _Parser:
    parser = _new_parser("talk", _TALK, _TALK_MORE)
    parser.add_argument(
        "endpoint",
        metavar="ENDPOINT",
        nargs="?",
        type=_explaining(Endpoint.parse),
        default=Endpoint(),
        help=f"where the server is: {FORMS.removesuffix(', fd:N')} (default: {Endpoint()})",
    )
    tls = parser.add_argument_group("tls endpoints")
    trust = tls.add_mutually_exclusive_group()
    trust.add_argument(
        "--tls-ca",
        metavar="FILE",
        help="PEM certificates to trust (default: those that the system trusts)",
    )
    trust.add_argument(
        "--tls-insecure", action="store_true", help="trust anybody: whoever listens in, too"
    )
    tls.add_argument(
        "--tls-server-name",
        metavar="NAME",
        help="the name that the server's certificate must have (default: the host)",
    )
    tls.add_argument(
        "--tls-cert",
        metavar="FILE",
        help="PEM certificate to show to a server that asks for one (default: none)",
    )
    tls.add_argument(
        "--tls-key", metavar="FILE", help="its PEM key (default: in the same file)"
    )
    return parser


def _serve_parser() -> _Parser:
    parser = _new_parser("serve", _SERVE, _SERVE_MORE)
    parser.add_argument(
        "endpoint",
        metavar="ENDPOINT",
        nargs="*",
        type=_explaining(Endpoint.parse),
        default=[],
        help=f"where to listen: {FORMS}; host * is every interface, port 0 any free port, "
        "@NAME an abstract name, N a descriptor that was bound by whoever started this "
        f"(default: what systemd passes, or {Endpoint()})",
    )
    parser.add_argument(
        "--reply",
        choices=("stamped", "raw"),
        default="stamped",
        help='"[date and time] chunk", or the bytes unchanged (default: stamped)',
    )
    limits = parser.add_argument_group("limits")
    for field in attrs.fields(Limits):
        _add_limit(limits, field)
    _add_sockets(parser.add_argument_group("sockets"))
    log = parser.add_argument_group("log")
    log.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="lines for people, or one JSON object per line (default: text)",
    )
    loudness = log.add_mutually_exclusive_group()
    loudness.add_argument(
        "-q", "--quiet", action="store_true", help="say nothing of single connections"
    )
    loudness.add_argument("-v", "--verbose", action="store_true", help="say more")
    return parser


def _add_sockets(group: argparse._ArgumentGroup) -> None:
    for option, meaning in [
        (
            "--tls-cert",
            "what tls endpoints show: a certificate and its signers, PEM (default: none)",
        ),
        ("--tls-key", "its key (default: in the same file)"),
        ("--tls-client-ca", "ask for clients' certificates, which these signed (default: off)"),
    ]:
        group.add_argument(option, metavar="FILE", help=meaning)
    group.add_argument(
        "--unix-mode",
        metavar="OCTAL",
        type=_explaining(_read_mode),
        help="permissions of Unix paths, such as 660 (default: as the umask says)",
    )


def _read_mode(text: str) -> int:
    if not re.fullmatch("[0-7]{3,4}", text) or int(text, 8) > _ALL_PERMISSIONS:
        raise ValueError(f"expected permissions in octal digits, such as 660, got {text!r}")
    return int(text, 8)


def _add_limit(group: argparse._ArgumentGroup, field: attrs.Attribute[Any]) -> None:
    if isinstance(field.default, bool):
        group.add_argument(
            _flag("no_" + field.name),
            dest=field.name,
            action="store_false",
            help=f"do not {field.metadata['meaning']} (default: drop them)",
        )
        return
    off = field.default in (None, math.inf)
    unit = field.metadata["unit"]
    if field.name == "backlog":
        default = "the kernel's maximum"
    else:
        default = "off" if off else f"{field.default:,g} {unit}"
    group.add_argument(
        _flag(field.name),
        metavar={"s": "SECONDS", "bytes": "BYTES"}.get(unit, "N"),
        type=_limit_type(field),
        default=field.default,
        help=f"{field.metadata['meaning']} (default: {default})",
    )


def _limit_type(field: attrs.Attribute[Any]) -> Callable[[str], Any]:
    counts = field.metadata["unit"] != "s"

    def read(text: str) -> Any:
        value: Any
        if text == "off":
            value = None if counts else math.inf
        else:
            try:
                value = int(text) if counts else float(text)
            except ValueError:
                wanted = "a whole number" if counts else "a number of seconds"
                raise ValueError(f"expected {wanted}, got {text!r}") from None
        if field.validator is not None:
            field.validator(None, field, value)
        return value

    return _explaining(read)


def _explaining(read: Callable[[str], T]) -> Callable[[str], T]:
    """Keep the words of a `ValueError`, which argparse would replace by its own."""

    def explained(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return explained


def _apply_environment(parser: _Parser, environment: Mapping[str, str]) -> None:
    """Turn TECHO_ variables into defaults; flags, which only switch something on, have none."""
    for name, default in vars(parser.parse_args([])).items():
        variable = "TECHO_" + name.upper()
        if variable not in environment or name == "command" or isinstance(default, bool):
            continue
        text = environment[variable]
        given = ["--", *text.split()] if name == "endpoint" else [_flag(name) + "=" + text]
        parser.source = f"{variable}={text!r}: "
        parser.set_defaults(**{name: getattr(parser.parse_args(given), name)})
    parser.source = ""


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
