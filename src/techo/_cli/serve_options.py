"""The options of serve, and what its help says; the limits say it themselves."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from techo._cli.arguments import Command, Group, explaining, flag
from techo._faults.text import forms, parse_fault
from techo._server.limits import Limits
from techo.endpoint import FORMS, Endpoint

_ALL_PERMISSIONS: Final = 0o777

_DESCRIPTION = """\
Serve echoes until told to stop: every chunk that arrives is sent back.

Other commands: talk, a client that sends what it reads and prints what comes back; check,
which tries out whether a server is a good echo; ping, which measures loss and latency; load,
which makes many round trips and measures those; merge, which adds up the reports of several
loads (%(prog)s talk --help, and so on)."""

_MORE = """\
What takes a value can be set in the environment too, as TECHO_ and its name, such as
TECHO_IDLE_TIMEOUT=5 or TECHO_ENDPOINT="8009 9000" (which clients read too). What is
given here wins.

Standard output: a line "listening on ENDPOINT" for each socket. Standard error: the log.
Given no endpoint, sockets that systemd passes are served. It is told when all is ready.
SIGTERM and SIGINT drain the server: it stops accepting and ends each connection when nothing
is owed; a second one stops it at once. SIGUSR1 prints the statistics.
Exit status: 0 drained, 1 connections had to be cut, 2 wrong usage or nothing to listen on,
130 (by SIGINT) after Ctrl-C."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "endpoint",
        metavar="ENDPOINT",
        nargs="*",
        type=explaining(Endpoint.parse),
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
    faults = parser.add_argument_group("faults, to test clients with")
    faults.add_argument(
        "--fault",
        metavar="FAULT",
        action="append",
        type=explaining(parse_fault),
        default=[],
        help=f"misbehave on purpose; can be given several times: {forms()}; each may go on "
        "with ,probability=SHARE ,every=N (connections) ,from=BYTES (default: none)",
    )
    faults.add_argument(
        "--seed",
        metavar="N",
        type=int,
        default=0,
        help="what chance depends on: the same seed, the same faults (default: 0)",
    )
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


def _add_sockets(group: Group) -> None:
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
        type=explaining(_read_mode),
        help="permissions of Unix paths, such as 660 (default: as the umask says)",
    )


def _read_mode(text: str) -> int:
    if not re.fullmatch("[0-7]{3,4}", text) or int(text, 8) > _ALL_PERMISSIONS:
        raise ValueError(f"expected permissions in octal digits, such as 660, got {text!r}")
    return int(text, 8)


def _add_limit(group: Group, field: attrs.Attribute[Any]) -> None:
    if isinstance(field.default, bool):
        group.add_argument(
            flag("no_" + field.name),
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
        flag(field.name),
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

    return explaining(read)


SERVE: Final = Command("[serve] [OPTION | ENDPOINT]...", _DESCRIPTION, _MORE, _add_arguments)
