"""The options of every client command: where the server is, and TLS."""

from __future__ import annotations

import argparse

from techo._cli.arguments import explaining
from techo.endpoint import FORMS, Endpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which server it is about, and how to trust it."""
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
