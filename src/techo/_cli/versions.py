"""Versions: what a bug report needs, found without importing anything that takes long."""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder

import techo


def line() -> str:
    """Return the versions of techo, trio and Python."""
    python = sys.version.split()[0]
    return f"techo {techo.__version__}, trio {_version_of('trio')}, Python {python}"


def _version_of(name: str) -> str:
    """Return the version of a package that is installed."""
    found = PathFinder.find_spec(name)
    if found is not None and found.origin:
        # Beside it is a folder whose name has the version (core metadata, "recording installed
        # projects"); importlib.metadata would take a third of the time that --version does.
        beside = os.path.dirname(os.path.dirname(found.origin))  # noqa: PTH120  -- likewise
        try:
            names = os.listdir(beside)  # noqa: PTH208  -- likewise
        except OSError:  # it is not in a folder, but in an archive
            names = []
        versions = [
            each[len(name) + 1 : -len(".dist-info")]
            for each in names
            if each.startswith(f"{name}-") and each.endswith(".dist-info")
        ]
        if len(versions) == 1:
            return versions[0]
    from importlib.metadata import version

    return version(name)
