"""The serve command: a server that runs until a signal."""

from __future__ import annotations

import argparse
import functools
import logging
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import techo
from techo._cli import systemd
from techo._cli.admission import ADMISSION
from techo._cli.endpoints import check_ports, read_listening
from techo._cli.errors import refuse
from techo._cli.fault_file import Faults
from techo._cli.faults import FAULT_NOTES, FAULTS
from techo._cli.limits import LIMITS, LOG
from techo._cli.metrics import METRICS, pages_of
from techo._cli.options import ANY, Command, Group, Option, option
from techo._cli.process import shortage
from techo._cli.readers import FILE, MODE, TIME_OR_NONE, Form, choice
from techo._cli.running import logged, run
from techo._cli.service import faults_of, make_service
from techo._cli.workers import WORKERS, workers_of
from techo._protocols import check_experimental
from techo.endpoint import LISTENING_FORMS, Endpoint

if TYPE_CHECKING:
    from techo._operate.workers import Workers

_log = logging.getLogger("techo.server")

_DESCRIPTION = """\
The word serve may be left out. Without an endpoint, sockets that systemd passes are served, or
tcp://127.0.0.1:8009."""

_EXAMPLES: Final = (
    ("techo --reply raw 9000 udp://9000", "bytes unchanged, TCP and UDP"),
    ("techo serve --idle-timeout 5 '*:8009'", "for other machines, IPv4 and IPv6"),
    ("techo --fault delay=20ms --fault reset=1000", "a bad one, to test a client with"),
)

_EXITS: Final = (
    ("0", "it was drained"),
    ("1", "connections were aborted"),
    ("2", "wrong usage, or nothing to listen on"),
    ("130", "by SIGINT, after Ctrl-C"),
)

_NOTES = f"""\
{FAULT_NOTES}

Standard output: a line "listening on ENDPOINT" for each socket. Standard error: the log.
systemd is notified when all are listening. SIGTERM and SIGINT drain the server: it stops
accepting, and ends each connection once no reply is pending. So does SIGHUP, unless it was
ignored at the start (nohup). A second signal stops it at once. SIGUSR1 prints statistics,
and SIGUSR2 has --fault-file read again, for new connections.
With --workers and without a terminal, SIGHUP replaces the workers, which read certificates
again."""


def _options() -> Iterator[Option | Group]:
    yield option(
        "endpoint",
        Form("ENDPOINT", read_listening, check=check_ports),
        f"where to listen: {LISTENING_FORMS}. Host * is every interface, and port 0 any free "
        "port. @NAME is an abstract name, and N a descriptor that the parent process has bound",
        repeatable=True,
        shown=f"what systemd passes, or {Endpoint()}",
    )
    yield option(
        "--reply",
        choice("stamped", "raw"),
        '"[date and time] chunk", or the bytes unchanged',
        default="stamped",
    )
    yield LIMITS
    yield ADMISSION
    yield METRICS
    yield Group(
        "Leaving",
        [
            option(
                "--lame-duck",
                TIME_OR_NONE,
                "after the first signal to stop, not be ready but go on accepting for this "
                "long, so that balancers stop sending first; a connection ends together with "
                "its next reply meanwhile",
                default=0.0,
                shown="off",
            )
        ],
    )
    yield WORKERS
    yield Group(
        "Sockets",
        [
            option(
                "--tls-cert",
                FILE,
                "what tls endpoints show: a certificate and its signers, PEM",
                shown="none",
            ),
            option("--tls-key", FILE, "its key", shown="in the same file"),
            option(
                "--tls-client-ca",
                FILE,
                "ask for clients' certificates, which these signed",
                shown="off",
            ),
            option(
                "--unix-mode",
                MODE,
                "permissions of Unix paths, such as 660",
                shown="as the umask says",
            ),
            ANY,
        ],
    )
    yield FAULTS
    yield LOG


def serve(options: argparse.Namespace) -> int:
    """Serve until drained and return the exit code: minus the signal's number for SIGINT."""
    return logged(options, _serve)


def _serve(options: argparse.Namespace, tell: Callable[[str], None]) -> int:
    if (short := shortage(-(-options.max_connections // (options.workers or 1)))) is not None:
        _log.warning("%s or lower --max-connections", short)
    try:
        pages = pages_of(options)
        inherited = systemd.take_inherited(os.environ)
        endpoints = options.endpoint or inherited or [Endpoint()]
        for each in () if options.any_protocol else endpoints:
            check_experimental(each.protocol, each)
        service = make_service(options, endpoints, pages)
        workers = None if options.workers is None else workers_of(options, service.limits)
    except ValueError as error:
        return refuse(str(error))
    reread = None
    if (faults := faults_of(options)).path:
        reread = functools.partial(_read_again, faults, service, workers)
    return run(
        workers or service,
        endpoints,
        tell,
        pages=pages,
        lame_duck=options.lame_duck,
        workers=workers,
        reread=reread,
    )


def _read_again(faults: Faults, service: techo.EchoService, workers: Workers | None) -> None:
    if workers is None:
        faults.read_again(lambda found: service.set_faults(*found))
    elif faults.read_again(lambda _: None):  # what is wrong with it is said only once
        workers.tell("faults")


COMMAND: Final = Command(
    "serve",
    "[serve] [OPTION | ENDPOINT]...",
    _DESCRIPTION,
    [*_options()],
    serve,
    variables='TECHO_IDLE_TIMEOUT=5 or TECHO_ENDPOINT="8009 9000" (a client takes the first)',
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("serve", "operate", "recipes", "faults", "behaviour"),
    notes=_NOTES,
)
