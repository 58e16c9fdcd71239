"""The proxy command: passes everything on to a server, with faults, until a signal."""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from techo._cli.endpoints import check_ports, read_listening
from techo._cli.errors import refuse
from techo._cli.fault_file import Faults, fault_file
from techo._cli.faults import FAULT, FAULT_NOTES, SEEDED
from techo._cli.limits import LOG, limits_but, limits_of
from techo._cli.options import Command, Group, Option, option
from techo._cli.process import shortage
from techo._cli.readers import MODE, Form
from techo._cli.running import logged, run
from techo._printable import quoted
from techo.endpoint import Endpoint

if TYPE_CHECKING:
    from techo._faults.values import Fault
    from techo._proxying.service import ProxyService

_log = logging.getLogger("techo.server")

_DESCRIPTION = """\
Clients connect to LISTEN instead of TARGET. Each connection has one of its own to the target,
and each source of datagrams a socket of its own. Bytes, messages, ends and resets pass both
ways as they are, unless a fault is asked for. --fault is about what clients get,
--upstream-fault about what the target gets."""

_EXAMPLES: Final = (
    ("techo proxy --fault delay=200ms 8010 localhost:8080", "a server that is far away"),
    ("techo proxy --fault reset,first=3 8010 localhost:8080", "one that breaks three times"),
    (
        "techo proxy --upstream-fault drop=5% udp://5300 udp://example.org:53",
        "a lossy way there",
    ),
)

_EXITS: Final = (
    ("0", "it was drained"),
    ("1", "connections were aborted"),
    ("2", "wrong usage, or cannot listen"),
    ("130", "by SIGINT, after Ctrl-C"),
)

_NOTES = f"""\
{FAULT_NOTES}
  Those of TLS, from never-handshake on, are for techo serve.

Both may be tcp, mptcp or unix; both udp or unixgram; or both unixpacket. TLS passes through tcp
untouched. The target may come and go: while it cannot be reached, connections are reset and
counted as unreachable, and the log says so once a minute.

Standard output, signals and the log are those of techo serve: a line "listening on ENDPOINT"
for each socket; SIGTERM and SIGINT drain, a second one stops at once; SIGUSR1 prints
statistics, and SIGUSR2 has the files of faults read again, for new connections."""


_RIGHT: Final = "LISTEN and TARGET, as in techo proxy 8010 example.org:80"


def _check(texts: Sequence[str]) -> None:
    check_ports(texts)
    if len(texts) != 2:  # noqa: PLR2004  -- as said
        wrong = f"{quoted(texts[2])} is one too many" if len(texts) > 1 else "TARGET is missing"
        raise ValueError(f"{wrong}; write {_RIGHT}")


def _options() -> Iterator[Option | Group]:
    yield option(
        "places",
        Form("LISTEN TARGET", read_listening, check=_check),
        "where to listen, and where to pass everything on to: tcp://HOST:PORT (or mptcp, "
        "udp), HOST:PORT, HOST, PORT or unix:PATH (or unixgram, unixpacket). LISTEN can also "
        "be fd:N, a descriptor that the parent process has bound",
        repeatable=True,
        shown="",
        named="",
    )
    yield Group(
        "Faults",
        [
            option(
                "--fault",
                FAULT,
                "misbehave towards clients, as listed below",
                repeatable=True,
                shown="none",
            ),
            fault_file("--fault-file", "--fault"),
            option(
                "--upstream-fault",
                FAULT,
                "misbehave towards the target, likewise",
                repeatable=True,
                shown="none",
            ),
            fault_file("--upstream-fault-file", "--upstream-fault"),
            SEEDED,
        ],
    )
    yield limits_but(
        "max_handshakes",
        handshake_timeout="end a connection that the target has not accepted for this long",
        receive_size="the most that is received at once",
        max_datagrams_per_second="pass on no more than this many datagrams a second from one "
        "address, or from one /64",
    )
    yield Group(
        "Sockets",
        [
            option(
                "--unix-mode",
                MODE,
                "permissions of Unix paths, such as 660",
                shown="as the umask says",
            ),
        ],
    )
    yield LOG


def proxy(options: argparse.Namespace) -> int:
    """Pass on until drained and return the exit code: minus the signal's number for SIGINT."""
    return logged(options, _proxy)


def _proxy(options: argparse.Namespace, tell: Callable[[str], None]) -> int:
    short = shortage(options.max_connections, files_each=2)
    if short is not None and {"max_connections"} & {*options.given, *options.variables}:
        _log.warning("%s or lower --max-connections", short)
    faults = Faults(options.fault, options.fault_file)
    upstream = Faults(options.upstream_fault, options.upstream_fault_file)
    try:
        listen, target = _places(options)
        service = _service_of(options, target, faults.read(), upstream.read())
    except ValueError as error:
        return refuse(str(error))

    def reread() -> None:
        if faults.path:
            faults.read_again(service.set_faults)
        if upstream.path:
            upstream.read_again(functools.partial(service.set_faults, upstream=True))

    files = faults.path or upstream.path
    return run(service, [listen], tell, reread=reread if files else None)


def _places(options: argparse.Namespace) -> tuple[Endpoint, Endpoint]:
    """Return where to listen, and the target.

    Raises:
        ValueError: there are none.
    """
    if not options.places:
        raise ValueError(f"proxy needs {_RIGHT}")
    listen, target = options.places
    return listen, target


def _service_of(
    options: argparse.Namespace,
    target: Endpoint,
    faults: Sequence[Fault],
    upstream_faults: Sequence[Fault],
) -> ProxyService:
    """Return what passes on to a target.

    Raises:
        ValueError: nobody can connect to that.
    """
    # Here, because they import trio, for which --help should not wait.
    from techo._proxying.service import ProxyService
    from techo._proxying.target import Target

    return ProxyService.of(
        Target.of(target),
        limits_of(options),
        faults,
        upstream_faults,
        options.seed,
        unix_mode=options.unix_mode,
    )


COMMAND: Final = Command(
    "proxy",
    "proxy [OPTION]... LISTEN TARGET",
    _DESCRIPTION,
    [*_options()],
    proxy,
    variables="TECHO_FAULT=delay=200ms or TECHO_IDLE_TIMEOUT=5",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("proxy", "faults", "behaviour"),
    notes=_NOTES,
)
