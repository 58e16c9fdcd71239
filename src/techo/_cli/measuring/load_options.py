"""The options of load, and what its help says."""

from __future__ import annotations

import argparse
from typing import Final

from techo._cli.arguments import Command, explaining, read_count, read_number, read_seconds
from techo._cli.client_options import add_arguments
from techo._cli.measuring.report_options import (
    STANDARD_OUTPUT,
    add_report_options,
    read_report_file,
)
from techo._cli.measuring.rules import LOAD as NAMES
from techo._cli.measuring.rules import names_of

_DESCRIPTION = """\
Make many round trips to any echo server over many connections, and verify every byte.

Without --rate, a connection sends its next message when one has come back. With it, trips are
due at that rate whatever comes back, and there are two times for each: service time from when
it was sent, response time from when it was due. Ctrl-C ends it with the summary; a second one
does not wait for what is under way."""

_MORE = f"""\
{names_of(NAMES)}
  With --rate, min to max are of the response time, otherwise of the service time; behind is
  the most by which a trip was sent too late.

What takes a value can be set in the environment too, as TECHO_ENDPOINT or TECHO_CONNECTIONS.
What is given here wins; TECHO_TLS_... count for tls endpoints and are ignored for others.

Exit status: 0 no error and no rule fired, 1 an error or a rule fired or nothing came back,
2 wrong usage or the server was never reached; by SIGINT (130) after Ctrl-C, where it would have
been 0. SIGTERM ends it like Ctrl-C, without changing the status."""


def _read_warm_up(text: str) -> float:
    return 0.0 if text.strip("0") in {"", "."} and "0" in text else read_seconds(text)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_arguments(parser)
    parser.add_argument(
        "-c",
        "--connections",
        metavar="N",
        type=explaining(read_count),
        default=10,
        help="how many at the same time (default: 10)",
    )
    parser.add_argument(
        "-d",
        "--duration",
        metavar="SECONDS",
        type=explaining(read_seconds),
        help="how long trips begin, after the warm-up (default: 10 s)",
    )
    parser.add_argument(
        "-n",
        "--trips",
        metavar="TRIPS",
        type=explaining(read_count),
        help="how many begin, instead of how long (default: as many as there is time for)",
    )
    parser.add_argument(
        "-r",
        "--rate",
        metavar="TRIPS_PER_SECOND",
        type=explaining(read_number),
        help="how many are due in each second, over all connections (default: the next when "
        "one has come back)",
    )
    parser.add_argument(
        "-s",
        "--size",
        metavar="BYTES",
        type=explaining(read_count),
        default=64,
        help="of each message (default: 64 bytes)",
    )
    parser.add_argument(
        "--pipeline",
        metavar="N",
        type=explaining(read_count),
        default=1,
        help="messages under way on each connection, at the most (default: 1)",
    )
    parser.add_argument(
        "--warm-up",
        metavar="SECONDS",
        type=explaining(_read_warm_up),
        default=0.0,
        help="how long to load before anything is counted (default: 0 s)",
    )
    parser.add_argument(
        "-W",
        "--timeout",
        metavar="SECONDS",
        type=explaining(read_seconds),
        help="how long to wait for a reply or a connection, and before giving up when nothing "
        "comes back any more, but ten times as long for messages that may get lost "
        "(default: 10 s; 1 s over udp and unixgram)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const=STANDARD_OUTPUT,
        type=explaining(read_report_file),
        help="print an object instead of text, or write it to a file as well (default: no)",
    )
    add_report_options(parser)


LOAD: Final = Command("[OPTION]... [ENDPOINT]", _DESCRIPTION, _MORE, _add_arguments)
