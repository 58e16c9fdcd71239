"""Fields of reports that are no single figure: what they have to be, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from techo._kernel.mptcp import MptcpPaths
from techo._probing.arrivals import Arrivals, arrivals_of
from techo._probing.failure_cause import FailureCause
from techo._validation import COUNT, NATURAL, TEXT, Requirement

_COUNTS: Final = Requirement(
    "a mapping from causes to whole numbers from 1",
    lambda value: _maps_causes(value) and not any(map(COUNT.missing, value.values())),
)

_TEXTS: Final = Requirement(
    "a mapping from causes to texts that can be printed",
    lambda value: _maps_causes(value) and not any(map(TEXT.missing, value.values())),
)

_PATHS: Final = Requirement(
    "a mapping of connections, plain and subflows to whole numbers",
    lambda value: isinstance(value, MptcpPaths) or _are_paths(value),
).or_off()

_SEEDS: Final = Requirement(
    "a list of whole numbers from 0",
    lambda value: isinstance(value, list | tuple) and not any(map(NATURAL.missing, value)),
)


def _are_paths(value: object) -> bool:
    names = {each.name for each in attrs.fields(MptcpPaths)}
    return (
        isinstance(value, Mapping)
        and value.keys() == names
        and not any(map(NATURAL.missing, value.values()))
    )


def _maps_causes(value: object) -> bool:
    return isinstance(value, Mapping) and set(FailureCause).issuperset(value)


def counts(failures: Any) -> dict[FailureCause, int]:
    """Return a mapping of causes to how often each was met.

    Raises:
        ValueError: it is none.
    """
    _COUNTS.check(failures=failures)
    return {FailureCause(name): count for name, count in failures.items()}


def texts(reasons: Any) -> dict[FailureCause, str]:
    """Return a mapping of causes to what was said of each.

    Raises:
        ValueError: it is none.
    """
    _TEXTS.check(reasons=reasons)
    return {FailureCause(name): text for name, text in reasons.items()}


def paths(mptcp: Any) -> MptcpPaths | None:
    """Return what connections have become that were to be MPTCP, if any were.

    Raises:
        ValueError: it is none.
    """
    _PATHS.check(mptcp=mptcp)
    return MptcpPaths(**mptcp) if isinstance(mptcp, Mapping) else mptcp


def maybe_arrivals(arrivals: Any) -> Arrivals | None:
    """Return how the trips of a rate follow each other, if there is one.

    Raises:
        ValueError: it is no word for that.
    """
    return None if arrivals is None else arrivals_of(arrivals)


def seeds_of(seeds: Any) -> tuple[int, ...]:
    """Return seeds of generators.

    Raises:
        ValueError: one of them is none.
    """
    _SEEDS.check(seeds=seeds)
    return tuple(seeds)
