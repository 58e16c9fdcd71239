"""Rules: comparisons such as ``p99>5ms``, and the figures that they can be about.

The same figure has the same name in every command, and its limit the same units.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Self, TypeAlias

import attrs

from techo._printable import quoted
from techo._probing.failure_cause import FailureCause
from techo._probing.histogram import PERCENTS, Histogram
from techo._quantities import (
    read_change,
    read_nanoseconds,
    read_number,
    read_percent,
    read_rate,
    read_size,
)


@attrs.frozen
class Dimension:
    """What a figure is, and how its limits are written."""

    what: str
    """What help calls figures of it."""
    example: str
    """Of a limit."""
    read: Callable[[str], float]
    """Reads a limit."""
    divisor: float = 1
    """What divides it to be shown."""
    unit: str = ""
    """What it is shown in."""
    missing: str = "there were too few round trips"
    """Why there may be no such figure."""
    found: str = "was {:.10g}"
    """How a rule that fires says what it has found, before the unit."""
    endless: str = "was lost: so many did not come back"
    """What is said of one that is infinite."""
    comparisons: Sequence[str] = ()
    """Those that make sense; empty for all."""
    most: float = math.inf
    """What no limit can exceed."""


TIME: Final = Dimension("times", "5ms", read_nanoseconds, 1_000_000, " ms")
_ALL: Final = 100
"""Per cent."""

SHARE: Final = Dimension("shares", "0.1%", read_percent, unit=" %", most=_ALL)
PER_MINUTE: Final = Dimension(
    "responsiveness (round trips per minute)",
    "1000",
    read_number,
    unit=" round trips a minute",
    missing="there were too few probes",
)
RATE: Final = Dimension("rates (round trips per second)", "10000", read_rate, unit="/s")
CONNECT_TIME: Final = attrs.evolve(
    TIME, what="times of connecting", missing="too few connections were opened"
)
PROBE_TIME: Final = attrs.evolve(
    TIME, what="times of probes", missing="there were too few probes"
)
CONNECT_RATE: Final = attrs.evolve(RATE, what="rates of connecting (connections per second)")
SIZE: Final = Dimension("sizes", "64k", read_size, unit=" bytes")
COUNT: Final = Dimension("counts", "0", read_number)
DAYS: Final = Dimension(
    "days", "14", read_number, unit=" days", missing="there was no certificate"
)
SUBFLOWS: Final = Dimension(
    "subflows of MPTCP", "2", read_number, unit=" subflows", missing="nothing was to be MPTCP"
)
SEGMENTS: Final = Dimension(
    "segments (of tcp and tls)", "0", read_number, missing="TCP says nothing of it"
)
CHANGE: Final = Dimension(
    "changes",
    "+10%",
    read_change,
    unit=" %",
    found="changed by {:+.4g}",
    endless="grew beyond any percentage",
    comparisons="><",
)
POINTS: Final = Dimension(
    "changes in percentage points",
    "+0.1%",
    read_change,
    unit=" percentage points",
    found="changed by {:+.4g}",
    comparisons="><",
    most=_ALL,
)
DIMENSIONS: Final = (
    CHANGE,
    POINTS,
    TIME,
    SHARE,
    RATE,
    PER_MINUTE,
    SIZE,
    COUNT,
    CONNECT_TIME,
    CONNECT_RATE,
    PROBE_TIME,
    DAYS,
    SUBFLOWS,
    SEGMENTS,
)

Table: TypeAlias = Mapping[str, Dimension]
"""The figures that the rules of a command can be about."""

Figures: TypeAlias = dict[str, float | None]
"""Times in nanoseconds, shares in per cent; None where there are too few trips to tell."""

_LATENCIES: Final = tuple(
    name.replace("_", ".") for name in Histogram().figures(*PERCENTS) if name != "count"
)

_FEW: Final = ("p50", "p90", "max")
"""Latencies for which there are enough probes without load."""

BOTH: Final = (
    "sent",
    "received",
    "lost",
    "late",
    "duplicate",
    "stray",
    "dropped_here",
    "reconnects",
    "outages",
)
"""What ping and load have under the same name."""

_SHARED: Final = {
    **dict.fromkeys((*_LATENCIES, "outage"), TIME),
    "loss": SHARE,
    **dict.fromkeys((*BOTH, "failures", *FailureCause), COUNT),
    "subflows": SUBFLOWS,
}

PING: Final[Table] = _SHARED | {
    "mdev": TIME,
    "jitter": TIME,
    "missed": COUNT,
    "retransmits": SEGMENTS,
    "certificate_days": DAYS,
}

PROBED: Final[Table] = {
    **{f"probe.{name}": PROBE_TIME for name in _LATENCIES},
    **{f"probe.{when}.{name}": PROBE_TIME for when in ("idle", "after") for name in _FEW},
    "probe.growth": PROBE_TIME,
    "probe.lost": COUNT,
    "responsiveness": PER_MINUTE,
}
"""What there is of the probe beside a load: under load, if the name does not say otherwise."""

LOAD: Final[Table] = _SHARED | {
    **{f"{which}.{name}": TIME for which in ("service", "response") for name in _LATENCIES},
    "send_lag": TIME,
    **PROBED,
    "rate": RATE,
    "received_bytes": SIZE,
    "unsent": COUNT,
    **{f"connect.{name}": CONNECT_TIME for name in _LATENCIES},
    "connects": COUNT,
    "connect_rate": CONNECT_RATE,
}

WATCH: Final[Table] = {
    **dict.fromkeys(_LATENCIES, TIME),
    "loss": SHARE,
    **dict.fromkeys(("received", "lost", "late", "duplicate", "stray", "failures"), COUNT),
    **dict.fromkeys(FailureCause, COUNT),
    "certificate_days": DAYS,
}

_NO_SLO: Final = {
    *("sent", "received", "received_bytes", "rate", "send_lag", "subflows", *PROBED),
    *("connects", "connect_rate"),
    *(name for name in LOAD if name.startswith(("service.", "response."))),
}
"""What grows with the rate by itself, is about the client or a probe, or forgives a server that
halts; and the response time under its other name."""

SLO: Final[Table] = {name: found for name, found in LOAD.items() if name not in _NO_SLO}

COMPARE: Final[Table] = {
    **dict.fromkeys((name for name in _LATENCIES if name not in {"min", "max"}), CHANGE),
    "rate": CHANGE,
    "loss": POINTS,
}
"""What `compare` compares."""

_TABLES: Final = {"ping": PING, "load and merge": LOAD, "watch": WATCH}

_PREFIXES: Final = ("", "service.", "response.", "connect.", "probe.")

ALSO_CALLED: Final = {
    "loss_percent": "loss",
    "connects_per_second": "connect_rate",
    **{f"{which}p99_9": f"{which}p99.9" for which in _PREFIXES},
}
"""Figures as JSON has them, which are as good."""

NEAR: Final = {
    "avg": "mean",
    "average": "mean",
    "median": "p50",
    "errors": "failures",
    "round_trips": "received",
    "bytes": "received_bytes",
    "behind": "send_lag",
}
"""What other programs call them."""


def listed(table: Table) -> Iterable[tuple[Dimension, list[str]]]:
    """Return which figures of a table have which dimension."""
    for dimension in DIMENSIONS:
        names = [name for name, found in table.items() if found is dimension]
        if names:
            yield dimension, names


_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@attrs.frozen
class Rule:
    """One rule; it fires if the comparison holds."""

    text: str
    """As it was given."""
    name: str
    dimension: Dimension
    comparison: str
    limit: float
    """In the unit of its dimension."""

    @classmethod
    def parse(cls, text: str, table: Table) -> Self:
        """Read a rule such as ``p99>5ms``.

        Raises:
            ValueError: it is none; the text names the rule and the position.
        """
        reader = _Reader(text)
        name = reader.take("[^<>=!]*", "").strip()
        name = ALSO_CALLED.get(name, name)
        if name not in table:
            raise reader.wrong(f"no figure {quoted(name)}: {_hint(name, table)}", 0)
        dimension, at = table[name], reader.at
        expected = "expected one of " + " ".join(dimension.comparisons or _OPERATORS)
        comparison = reader.take("[<>]=?|[=!]=", expected)
        if dimension.comparisons and comparison not in dimension.comparisons:
            raise reader.wrong(f"{expected}, as in {name}>{dimension.example}", at)
        try:
            limit = dimension.read(reader.rest)
            if abs(limit) > dimension.most:
                what = quoted(reader.rest)
                raise ValueError(f"{what} is beyond {dimension.most:g}%, which is all")  # noqa: TRY301  -- has its example below
        except ValueError as error:
            example = f"{name}{comparison}{dimension.example}"
            raise reader.wrong(f"{error}; as in {example}") from None
        if dimension.comparisons and (math.copysign(1, limit) < 0) != (comparison == "<"):
            right = f"{name}>+5% or {name}<-5%"
            raise reader.wrong(f"> goes with +, and < with -, as in {right}", at)
        return cls(text, name, dimension, comparison, limit)

    def judge(self, figures: Mapping[str, float | None]) -> str | None:
        """Return what was found if the rule fires, which it also does for lack of samples."""
        if self.holds(figures) is False:
            return None
        return f"{self.text}: {self.found_in(figures)}"

    def holds(self, figures: Mapping[str, float | None]) -> bool | None:
        """Return whether the comparison holds; None if there are too few samples to tell."""
        found = figures[self.name]
        if found is None or math.isnan(found):
            return None
        return _OPERATORS[self.comparison](found, self.limit)

    def found_in(self, figures: Mapping[str, float | None]) -> str:
        """Return what its figure was, for people, or why there is none."""
        found = figures[self.name]
        if found is None or math.isnan(found):
            return f"cannot tell, {self.dimension.missing}"
        if math.isinf(found):
            return f"{self.name} {self.dimension.endless}"
        shown = self.dimension.found.format(found / self.dimension.divisor)
        return f"{self.name} {shown}{self.dimension.unit}"


def _hint(name: str, table: Table) -> str:
    tables = [commands for commands, theirs in _TABLES.items() if name in theirs]
    if tables:
        *others, last = " and ".join(tables).split(" and ")
        return (
            f"only {', '.join(others)} and {last} have it" if others else f"only {last} has it"
        )
    import difflib  # noqa: PLC0415  -- only a mistake needs it

    near = [NEAR[name]] if name in NEAR else difflib.get_close_matches(name, table, 1)
    return (f"did you mean {near[0]}? " if near else "") + "--help lists them"


@attrs.define
class _Reader:
    """Reads a rule from left to right."""

    text: str
    at: int = 0

    @property
    def rest(self) -> str:
        return self.text[self.at :].strip()

    def take(self, pattern: str, or_else: str) -> str:
        """Return what matches, and go on after it and the blanks around it."""
        found = re.compile(rf"\s*({pattern})\s*", re.ASCII | re.IGNORECASE).match(
            self.text, self.at
        )
        if found is None:
            raise self.wrong(or_else)
        self.at = found.end()
        return found[1]

    def wrong(self, what: str, at: int | None = None) -> ValueError:
        """Return the error, with the rule and the position."""
        place = 1 + (self.at if at is None else at)
        return ValueError(f"rule {quoted(self.text)}, character {place}: {what}")
