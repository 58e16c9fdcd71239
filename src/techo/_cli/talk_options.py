"""The options of talk, and what its help says."""

from __future__ import annotations

import argparse
from typing import Final

from techo._cli.arguments import Command, explaining
from techo.endpoint import FORMS, Endpoint

_DESCRIPTION = """\
Send what is read from standard input and print what comes back.

On a terminal: a prompt, a line in, its reply out; an empty line or Ctrl-D ends it. In a pipe:
everything as it comes, until the input ends and all of it has come back.

Over udp, unixgram and unixpacket a line is a message. What no reply comes to, over udp and
unixgram, is told after a second, and the talk goes on."""

_MORE = """\
What takes a value can be set in the environment too, as TECHO_ENDPOINT or TECHO_TLS_CA. What
is given here wins; TECHO_TLS_... count for tls endpoints and are ignored for others.

Exit status: 0 all came back, 1 the server cut it short or owed a reply, 2 wrong usage, a line
too long for a message, or no connection."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "endpoint",
        metavar="ENDPOINT",
        nargs="?",
        type=explaining(Endpoint.parse),
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


TALK: Final = Command("[OPTION]... [ENDPOINT]", _DESCRIPTION, _MORE, _add_arguments)
