"""The check command: the report on an echo service, as a table or for machines."""

from __future__ import annotations

import argparse
import json
from typing import Final

import trio

from techo._checking.kit import CHECK_NAMES, check_echo_service
from techo._checking.report import Check, CheckReport, EchoServiceError, Verdict
from techo._cli.complaints import CONNECTING_BY_PATH, complain, refuse
from techo._cli.tls import client_context
from techo.endpoint import Endpoint
from techo.reply import Reply, raw, stamped

_NANOSECONDS: Final = 1_000_000_000

_REPLIES: Final[dict[str, Reply | None]] = {"raw": raw, "stamped": stamped, "any": None}

_ROW: Final = (
    f"{{:{max(map(len, CHECK_NAMES))}}}  {{:{max(map(len, Verdict))}}}  {{:>9}}  {{}}".format
)


def check(options: argparse.Namespace) -> int:
    """Do all checks and print each as soon as it is done; give the exit code."""
    try:
        report = trio.run(_check, options)
    except OSError as error:  # first, because a bad certificate is a ValueError as well
        remedies = [CONNECTING_BY_PATH] if options.endpoint.path else []
        return complain(f"cannot check {options.endpoint}", error, *remedies)
    except ValueError as error:
        return refuse(str(error))
    say = _object_of_all if options.json else _last_line
    print(say(options.endpoint, report), flush=True)
    return 0 if report.passed else 1


async def _check(options: argparse.Namespace) -> CheckReport:
    tls = client_context(options)
    say = _object if options.json else _row
    try:
        return await check_echo_service(
            options.endpoint,
            reply=_REPLIES[options.reply],
            patience=options.patience,
            connections=options.connections,
            skip=options.skip,
            tls=tls,
            server_name=None if tls is None else options.tls_server_name,
            watch=lambda each: print(say(each), flush=True),
        )
    except EchoServiceError as error:
        return error.report


def _row(each: Check) -> str:
    return _ROW(each.name, each.verdict, f"{each.seconds * 1000:,.1f} ms", each.evidence)


def _last_line(endpoint: Endpoint, report: CheckReport) -> str:
    reply = "unknown" if report.reply is None else report.reply.__name__
    counts = [f"{len(report.counted(verdict))} {verdict}" for verdict in Verdict]
    return f"{endpoint} ({reply} replies): {', '.join(counts)}"


def _object(each: Check) -> str:
    return json.dumps(
        {
            "check": each.name,
            "verdict": each.verdict,
            "evidence": each.evidence,
            "sent": each.sent,
            "received": each.received,
            "offset": each.offset,
            "elapsed_ns": round(each.seconds * _NANOSECONDS),
        }
    )


def _object_of_all(endpoint: Endpoint, report: CheckReport) -> str:
    return json.dumps(
        {
            "endpoint": str(endpoint),
            "reply": None if report.reply is None else report.reply.__name__,
            "passed": len(report.counted(Verdict.PASSED)),
            "failed": len(report.failed),
            "not_applicable": len(report.counted(Verdict.NOT_APPLICABLE)),
            "elapsed_ns": round(sum(each.seconds for each in report.checks) * _NANOSECONDS),
        }
    )
