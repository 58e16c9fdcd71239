"""The options of ping, and what its help says."""

from __future__ import annotations

import argparse
import re
from typing import Final

from techo._cli.arguments import Command, explaining, read_count, read_seconds
from techo._cli.client_options import add_arguments
from techo._cli.measuring.rules import PING as NAMES
from techo._cli.measuring.rules import add_rules, names_of

_DESCRIPTION = """\
Probe any echo server again and again: one line for each reply, or for the cause of its loss.

A probe carries its number, the run's nonce and a pattern, and its reply must be the same bytes.
A stream that breaks costs the probes under way, and is connected again for the next. Ctrl-C
ends it with a summary; Enter, or SIGQUIT, prints the statistics so far on standard error."""

_MORE = f"""\
{names_of(NAMES)}

What takes a value can be set in the environment too, as TECHO_ENDPOINT or TECHO_INTERVAL. What
is given here wins; TECHO_TLS_... count for tls endpoints and are ignored for others.

Exit status: 0 a reply came and no rule fired, 1 none came or one fired, 2 wrong usage or the
server was never reached; by SIGINT (130) after Ctrl-C, where it would have been 0. SIGTERM ends
it like Ctrl-C, without changing the status."""


def _read_size(text: str) -> int | range:
    """Read a number of bytes, or a range of them with an optional step."""
    found = re.fullmatch(r"([0-9]+)(?:-([0-9]+)(?:/([0-9]+))?)?", text, re.ASCII)
    least, most, step = (int(each or 1) for each in found.groups()) if found else (0, 0, 0)
    ranged = found is not None and found[2] is not None
    if least < 1 or step < 1 or (ranged and most < least):
        raise ValueError(
            "expected a number of bytes above 0, as in 64, or a range of them, as in 1-1400 or "
            f"100-1400/100, got {text!r}"
        )
    return range(least, most + 1, step) if ranged else least


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument(
        "-c",
        "--count",
        metavar="COUNT",
        type=explaining(read_count),
        help="how many probes (default: no end; of a range of sizes, each once)",
    )
    parser.add_argument(
        "-i",
        "--interval",
        metavar="SECONDS",
        type=explaining(read_seconds),
        default=1.0,
        help="from one probe to the next (default: 1 s)",
    )
    parser.add_argument(
        "-W",
        "--timeout",
        metavar="SECONDS",
        type=explaining(read_seconds),
        default=1.0,
        help="how long to wait for a reply, or for a connection (default: 1 s)",
    )
    parser.add_argument(
        "-s",
        "--size",
        metavar="BYTES",
        type=explaining(_read_size),
        default=64,
        help="of a probe; LEAST-MOST or LEAST-MOST/STEP takes one after the other, and finds "
        "the largest that returns (default: 64 bytes)",
    )
    parser.add_argument(
        "-D", "--timestamps", action="store_true", help="print the Unix time before each line"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print the summary only")
    parser.add_argument("--json", action="store_true", help="print an object for each line")
    add_rules(parser, NAMES)


PING: Final = Command("[OPTION]... [ENDPOINT]", _DESCRIPTION, _MORE, _add_arguments)
