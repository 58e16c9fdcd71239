"""The options of load and merge alike: where a report goes, and what makes it a bad one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from techo._cli.arguments import explaining
from techo._cli.measuring.rules import LOAD, add_rules
from techo.endpoint import Endpoint

STANDARD_OUTPUT: Final = "-"
"""Stands for it where a file could be named."""

PICTURES: Final = {".svg", ".png"}
"""What can be drawn."""


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Let a command be told to draw its report, and to judge it."""
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=explaining(_read_picture),
        help="draw the percentiles there, as .svg or .png; needs the extra plot (default: no)",
    )
    add_rules(parser, LOAD)


def read_report_file(text: str) -> str:
    """Read the name of a file to write a report to, or what stands for standard output.

    Raises:
        ValueError: it could not be written, or is more likely to be where the server is.
    """
    if text == STANDARD_OUTPUT:
        return text
    if _is_endpoint(text):
        raise ValueError(
            f"{text!r} is an endpoint; write ENDPOINT --json, or --json=./{text} for a file"
        )
    return _check_writable(text)


def _read_picture(text: str) -> str:
    if Path(text).suffix.lower() not in PICTURES:
        raise ValueError(f"{text!r} is neither .svg nor .png")
    return _check_writable(text)


def _is_endpoint(text: str) -> bool:
    try:
        Endpoint.parse(text)
    except ValueError:
        return False
    return True


def _check_writable(text: str) -> str:
    """Find out before a measurement, without touching what is there, what would lose it."""
    path = Path(text)
    if not text:
        raise ValueError("expected the name of a file, got ''")
    if path.is_dir():
        raise ValueError(f"cannot write {text!r}: it is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {text!r}: there is no folder {str(path.parent)!r}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"cannot write {text!r}: permission denied")
    return text
