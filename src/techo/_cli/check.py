"""The check command: the report on an echo service, as a table or for machines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from techo._checking.names import CHECK_NAMES
from techo._cli.errors import cannot_reach, refuse
from techo._cli.objects import OBJECT_OPTIONS, Objects, taking_objects
from techo._cli.options import CLIENT, Command, Group, Option, option
from techo._cli.output import is_dumb, print_lines, writing
from techo._cli.packets import PACKETS, socket_options
from techo._cli.page import columns, wrap
from techo._cli.process import shortage
from techo._cli.readers import NUMBER, TIME, Form, choice
from techo._cli.tls import client_context
from techo._printable import printable
from techo._probing.histogram import nanoseconds
from techo._probing.text import mptcp_in_words
from techo._schema import headed
from techo.endpoint import Endpoint, Kind
from techo.reply import Reply, raw, stamped

if TYPE_CHECKING:
    from techo._checking.context import Check, CheckReport

_REPLIES: Final[dict[str, Reply | None]] = {"raw": raw, "stamped": stamped, "any": None}

_EVIDENCE: Final = 24
"""Columns below which what a check has found stands below its name, and not beside it."""

_TIME: Final = len("10,000.0 ms")
"""Columns of a time: `--patience` as it is by default is the longest that a check may take."""

_CLEAR: Final = "\r\x1b[K"
_PLAIN: Final = "\x1b[0m"
_COLOURS: Final = {"pass": "\x1b[32m", "fail": "\x1b[31m", "": "\x1b[2m"}
"""Of verdicts: green, red, and faint for all others (ECMA-48)."""

_DESCRIPTION = """\
A good echo, with what is in front of it, sends every byte back, much or little, after a
half-close too. It serves many connections at once, and lets a client wait that never reads.
Datagrams of every size come back whole, once, from the address that was asked."""

_EXAMPLES: Final = (
    ("techo check localhost", "over TCP"),
    ("techo check --connections 10 udp://8009", "over UDP, from 10 sockets at once"),
    ("techo check --json tls://echo.example:7", "for machines"),
)

_EXITS: Final = (
    ("0", "nothing failed"),
    ("1", "something failed"),
    ("2", "wrong usage, or not reachable, or this machine fell short"),
)

_NOTES = """\
The checks send some 40 MiB, and up to 64 MiB to a server that lets a client send for ever.
Standard output: a line for each check, with the evidence. With --json, an object for each, and
one for all of them at the end; times are whole nanoseconds."""


_OPTIONS: Final[Sequence[Option | Group]] = [
    *CLIENT,
    PACKETS,
    option(
        "--reply",
        choice(*_REPLIES),
        "what must come back: the bytes unchanged, the bytes with stamps, or either",
        default="any",
    ),
    option("--patience", TIME, "how long each check may take", default=10.0),
    option("--connections", NUMBER, "how many must be served at once", default=100),
    option(
        "--skip",
        Form("CHECK", str, choices=lambda: CHECK_NAMES),
        "leave out a check, such as back-pressure",
        repeatable=True,
        shown="none",
    ),
    *OBJECT_OPTIONS,
]


def check(options: argparse.Namespace) -> int:
    """Do all checks and print each as soon as it is done; return the exit code."""
    import trio

    if (short := shortage(options.connections)) is not None:
        return refuse(f"{short} or lower --connections")
    with taking_objects(options.output, printed=options.json) as objects:
        try:
            report = trio.run(_check, options, objects)
        except OSError as error:  # first, because a bad certificate is a ValueError as well
            return cannot_reach("cannot check", options.endpoint, error)
        except ValueError as error:
            return refuse(str(error))
        objects.put(_object_of_all(options.endpoint, report))
    if not options.json:
        width = columns() if sys.stdout.isatty() else None
        print_lines(*_last_lines(options.endpoint, report, width))
    return 0 if report.passed and objects.complete else 1


async def _check(options: argparse.Namespace, objects: Objects) -> CheckReport:
    from techo._checking.context import EchoServiceError
    from techo._checking.suite import check_echo_service

    tls = client_context(options)
    sockets = socket_options(options, max(2, options.connections))
    screen = _Screen(_names_of(options))

    def watch(each: Check) -> None:
        objects.put(_object(each))
        if not options.json:
            screen.show(each)

    try:
        if not options.json:
            screen.announce()
        return await check_echo_service(
            options.endpoint,
            reply=_REPLIES[options.reply],
            patience=options.patience,
            connections=options.connections,
            skip=options.skip,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
            options=sockets,
            watch=watch,
        )
    except EchoServiceError as error:
        return error.report
    finally:
        screen.clear()


def _names_of(options: argparse.Namespace) -> list[str]:
    """Return the names of the checks that will be done, in their order."""
    from techo._checking.datagram_checks import DATAGRAM_CHECKS
    from techo._checking.stream_checks import STREAM_CHECKS

    datagrams = options.endpoint.kind in {Kind.UDP, Kind.UNIXGRAM}
    names = DATAGRAM_CHECKS if datagrams else STREAM_CHECKS
    return [name for name in names if name not in options.skip]


@attrs.define(eq=False)
class _Screen:
    """Prints rows; on a terminal in colour, and below them what is being done."""

    names: list[str]
    """Of the checks that are not done yet."""
    live: bool = attrs.field(factory=lambda: sys.stdout.isatty() and not is_dumb())
    _announced: bool = False

    def show(self, each: Check) -> None:
        """Print the row of a check, and what comes next."""
        self.clear()
        row = "\n".join(_row(each, columns() if self.live else None))
        if self.live and not os.environ.get("NO_COLOR"):
            verdict = str(each.verdict)
            coloured = f"{_COLOURS.get(verdict, _COLOURS[''])}{verdict}{_PLAIN}"
            row = row.replace(f"  {verdict}", f"  {coloured}", 1)
        with writing():
            print(row, flush=True)
        if each.name in self.names:
            self.names.remove(each.name)
            self.announce()

    def announce(self) -> None:
        """Print what is being done, on a terminal; the next row takes its place."""
        if self.live and self.names:
            with writing():
                print(f"{self.names[0]} ...", end="", flush=True)
            self._announced = True

    def clear(self) -> None:
        """Take away what was announced."""
        if self._announced:
            with writing():
                print(_CLEAR, end="", flush=True)
            self._announced = False


def _row(each: Check, width: int | None) -> list[str]:
    """Return the row of a check, in lines of `width` columns; in one where there are none."""
    from techo._checking.context import Verdict

    name, verdict = max(map(len, CHECK_NAMES)), max(map(len, Verdict))
    done = each.verdict in {Verdict.PASSED, Verdict.FAILED}  # else no time is worth reading
    took = f"{each.seconds * 1000:,.1f} ms" if done else ""
    left = f"{each.name:{name}}  {each.verdict:{verdict}}  {took:>{_TIME}}"
    evidence = printable(each.evidence)
    if width is None or len(left) + 2 + len(evidence) <= width:
        return [f"{left}  {evidence}"]
    import textwrap

    beside = width - len(left) - 2
    if beside < _EVIDENCE:
        return [
            left,
            *textwrap.wrap(evidence, width, initial_indent="  ", subsequent_indent="  "),
        ]
    first, *rest = textwrap.wrap(evidence, beside)
    return [f"{left}  {first}", *(" " * (len(left) + 2) + line for line in rest)]


def _last_lines(endpoint: Endpoint, report: CheckReport, width: int | None) -> list[str]:
    """Return the sum of it all, in lines of `width` columns; in one where there are none."""
    from techo._checking.context import Verdict

    reply = "unknown" if report.reply is None else report.reply.__name__
    counts = [
        f"{count} {verdict}"
        for verdict in Verdict
        if (count := len(report.counted(verdict)))
        or verdict in {Verdict.PASSED, Verdict.FAILED}
    ]
    text = f"{endpoint} ({reply} replies): {', '.join(counts)}"
    if report.mptcp is not None:
        text += f"; {mptcp_in_words(report.mptcp)}"
    return [text] if width is None else wrap(text, width, rest="  ")


def _object(each: Check) -> dict[str, Any]:
    return headed(
        "check",
        check=each.name,
        verdict=each.verdict,
        evidence=each.evidence,
        sent_bytes=each.sent,
        received_bytes=each.received,
        offset_bytes=each.offset,
        elapsed_ns=nanoseconds(each.seconds),
    )


def _object_of_all(endpoint: Endpoint, report: CheckReport) -> dict[str, Any]:
    from techo._checking.context import Verdict

    return headed(
        "summary",
        endpoint=str(endpoint),
        reply=None if report.reply is None else report.reply.__name__,
        passed=len(report.counted(Verdict.PASSED)),
        failed=len(report.failed),
        not_applicable=len(report.counted(Verdict.NOT_APPLICABLE)),
        skipped=len(report.counted(Verdict.SKIPPED)),
        not_tried=len(report.counted(Verdict.NOT_TRIED)),
        elapsed_ns=nanoseconds(sum(each.seconds for each in report.checks)),
        mptcp=None if report.mptcp is None else attrs.asdict(report.mptcp),
    )


COMMAND: Final = Command(
    "check",
    "check [OPTION]... [ENDPOINT]",
    _DESCRIPTION,
    _OPTIONS,
    check,
    variables="TECHO_ENDPOINT=8009 or TECHO_PATIENCE=30",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("check",),
    notes=_NOTES,
)
