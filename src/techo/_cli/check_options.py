"""The options of check, and what its help says."""

from __future__ import annotations

import argparse
from typing import Final

from techo._cli.arguments import Command, explaining, read_count, read_seconds
from techo._cli.client_options import add_arguments

_DESCRIPTION = """\
Try out whether a server, or whatever is in front of it, is a good echo: every byte comes back,
much or little, after a half-close too; many connections at once; a client that never reads has
to wait; datagrams of every size come back whole, once, from the address that was asked."""

_MORE = """\
What takes a value can be set in the environment too, as TECHO_ENDPOINT or TECHO_PATIENCE. What
is given here wins; TECHO_TLS_... count for tls endpoints and are ignored for others.

The checks send some 40 MiB, and up to 64 MiB to a server that lets a client send for ever.
Standard output: a line for each check, with the evidence. With --json, an object for each, and
one for all of them at the end; times are whole nanoseconds.

Exit status: 0 nothing failed, 1 something did, 2 wrong usage or not reachable."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument(
        "--reply",
        choices=("raw", "stamped", "any"),
        default="any",
        help="what must come back: the bytes unchanged, the bytes with stamps, or whichever of "
        "the two it is (default: any)",
    )
    parser.add_argument(
        "--patience",
        metavar="SECONDS",
        type=explaining(read_seconds),
        default=10.0,
        help="how long each check may take (default: 10 s)",
    )
    parser.add_argument(
        "--connections",
        metavar="N",
        type=explaining(read_count),
        default=100,
        help="how many must be served at once (default: 100)",
    )
    parser.add_argument(
        "--skip",
        metavar="CHECK",
        action="append",
        default=[],
        help="leave out a check, such as back-pressure (repeatable; default: none)",
    )
    parser.add_argument("--json", action="store_true", help="print objects instead of a table")


CHECK: Final = Command("[OPTION]... [ENDPOINT]", _DESCRIPTION, _MORE, _add_arguments)
