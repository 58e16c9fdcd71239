"""Sums: what several measurements at the same time have found out, added up."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence

from techo._kernel.mptcp import MptcpPaths
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import Histogram


def joined(addresses: Iterable[str | None]) -> str | None:
    """Return all addresses that are known, each once; None if none is."""
    return ", ".join(dict.fromkeys(filter(None, addresses))) or None


def sum_of(histograms: Iterable[Histogram | None]) -> Histogram:
    """Return a histogram of all that the histograms have."""
    total = Histogram()
    for each in histograms:
        if each is not None:
            total.add(each)
    return total


def sum_of_paths(paths: Iterable[MptcpPaths | None]) -> MptcpPaths | None:
    """Return what all connections have become; None if none was to be MPTCP."""
    found = [each for each in paths if each is not None]
    return functools.reduce(operator.add, found) if found else None


def sum_of_failures(
    counts: Sequence[Mapping[FailureCause, int]],
) -> dict[FailureCause, int]:
    """Return how many failures there were in all, by cause, but for causes that had none."""
    totals = {cause: sum(each.get(cause, 0) for each in counts) for cause in FailureCause}
    return {cause: count for cause, count in totals.items() if count}
