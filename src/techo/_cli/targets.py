"""Targets as arguments: many endpoints, by themselves or in a file, with the same options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from techo._cli.line_files import read_lines, text_of
from techo._cli.objects import STANDARD_OUTPUT
from techo._cli.options import option
from techo._cli.packets import socket_options
from techo._cli.readers import FILE
from techo._cli.tls import client_context
from techo._protocols import check_experimental
from techo.endpoint import SECURE, Endpoint, check_connectable

if TYPE_CHECKING:
    import ssl

    from techo._watch.targets import WatchTarget

MOST: Final = 10_000
"""Targets that a file may have."""

TARGETS_FILE: Final = option(
    "--targets",
    FILE,
    "a file with a target on each line, besides those that are named; # begins a comment, and "
    "- is standard input",
    shown="none",
    named="",
)


def read_targets(path: str) -> list[Endpoint]:
    """Read a file of targets.

    Raises:
        ValueError: it cannot be read, or a line of it; the text has the line, and what would
            be right.
    """
    text = text_of(path, sys.stdin.read if path == STANDARD_OUTPUT else None)
    found = read_lines(text, path, _read_target)
    if len(found) > MOST:
        raise ValueError(f"{path}: {len(found):,} targets are too many; {MOST:,} are allowed")
    return found


def _read_target(text: str) -> Endpoint:
    return check_connectable(Endpoint.parse(text), None, None, pinging=True)


def endpoints_of(options: argparse.Namespace, named: Sequence[Endpoint]) -> list[Endpoint]:
    """Return the endpoints that are named, and those of the file.

    Raises:
        ValueError: see `read_targets`.
    """
    return [*named, *([] if options.targets is None else read_targets(options.targets))]


def targets_of(
    options: argparse.Namespace, endpoints: Sequence[Endpoint], **same: Any
) -> list[WatchTarget]:
    """Return targets that have the options of a client command in common, and what is `same`.

    Raises:
        ValueError: an option does not fit one of them, or its file cannot be used.
    """
    from techo._watch.targets import WatchTarget

    context = _context(options, endpoints)
    targets, times = [], dict[Endpoint, int]()
    for endpoint in endpoints:
        one = argparse.Namespace(**{**vars(options), "endpoint": endpoint})
        if not options.any_protocol:
            check_experimental(endpoint.protocol, endpoint)
        times[endpoint] = times.get(endpoint, 0) + 1
        again = f" ({times[endpoint]})" if times[endpoint] > 1 else ""
        secure = endpoint.kind in SECURE
        targets.append(
            WatchTarget(
                endpoint=endpoint,
                name=f"{endpoint}{again}",
                tls=context if secure else None,
                server_name=options.tls_server_name if secure else None,
                options=socket_options(one),
                **same,
            )
        )
    return targets


def _context(
    options: argparse.Namespace, endpoints: Sequence[Endpoint]
) -> ssl.SSLContext | None:
    """Return one context for all that are tls, because each would read many files."""
    first = next((each for each in endpoints if each.kind in SECURE), endpoints[0])
    return client_context(argparse.Namespace(**{**vars(options), "endpoint": first}))
