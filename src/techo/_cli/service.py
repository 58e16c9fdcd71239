"""The service that the options of serve describe, in this process or in each worker."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import techo
from techo._cli.admission import admission_of
from techo._cli.fault_file import Faults
from techo._cli.limits import limits_of
from techo._cli.metrics import Pages, joined
from techo._cli.tls import server_context
from techo.endpoint import Endpoint


def faults_of(options: argparse.Namespace) -> Faults:
    """Return what the options want to go wrong."""
    return Faults(options.fault, options.fault_file)


def make_service(
    options: argparse.Namespace, endpoints: Sequence[Endpoint], pages: Pages | None
) -> techo.EchoService:
    """Return the service that the options describe, for these endpoints.

    Raises:
        ValueError: an option does not fit the others, or its file cannot be used.
    """
    return techo.EchoService(
        getattr(techo, options.reply),
        limits=limits_of(options),
        tls=server_context(options, endpoints),
        unix_mode=options.unix_mode,
        faults=faults_of(options).read(),
        seed=options.seed,
        hook=joined(admission_of(options), None if pages is None else pages.counting),
    )
