"""Rules: what --fail-if takes, and whether a measurement breaks it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self, TypeAlias

import attrs

from techo._cli.errors import fail
from techo._cli.options import Option, option
from techo._cli.readers import Form
from techo._probing.failure_cause import FailureCause
from techo._quantities import (
    read_nanoseconds,
    read_number,
    read_percent,
    read_rate,
    read_size,
)
from techo._validation import quoted


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


TIME: Final = Dimension("times", "5ms", read_nanoseconds, 1_000_000, " ms")
SHARE: Final = Dimension("shares", "0.1%", read_percent, unit=" %")
RATE: Final = Dimension("rates (round trips per second)", "10000", read_rate, unit="/s")
SIZE: Final = Dimension("sizes", "64k", read_size, unit=" bytes")
COUNT: Final = Dimension("counts", "0", read_number)

Table: TypeAlias = Mapping[str, Dimension]
"""The figures that the rules of a command can be about."""

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def _table(times: list[str], shares: list[str], counts: list[str], rates: list[str]) -> Table:
    return {
        **dict.fromkeys(times, TIME),
        **dict.fromkeys(shares, SHARE),
        **dict.fromkeys(rates, RATE),
        **dict.fromkeys((*counts, *FailureCause), COUNT),
    }


PING: Final = _table(
    ["min", "mean", "avg", "p50", "p95", "p99", "max", "mdev", "jitter", "outage"],
    ["loss"],
    ["sent", "received", "lost", "late", "duplicate", "stray", "reconnects"],
    [],
)
"""What rules of ping can be about; ``outage`` is the longest."""

_LATENCIES: Final = ["min", "mean", "p50", "p90", "p99", "p99.9", "max"]

LOAD: Final = _table(
    [
        *_LATENCIES,
        *(f"service.{each}" for each in _LATENCIES),
        *(f"response.{each}" for each in _LATENCIES),
        "behind",
        "outage",
    ],
    ["loss"],
    [
        "round_trips",
        "bytes",
        "errors",
        "lost",
        "reconnects",
        "unsent",
        "late",
        "duplicate",
        "stray",
    ],
    ["rate"],
)
"""What rules of load can be about; ``behind`` is the most, ``outage`` the longest."""


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
        if name not in table:
            import difflib  # only a mistake needs it

            near = difflib.get_close_matches(name, table, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise reader.wrong(f"no figure {quoted(name)}: {hint}--help lists them", 0)
        comparison = reader.take("[<>]=?|[=!]=", "expected one of " + " ".join(_OPERATORS))
        dimension = table[name]
        try:
            limit = dimension.read(reader.rest)
        except ValueError as error:
            example = f"{name}{comparison}{dimension.example}"
            raise reader.wrong(f"{error}; as in {example}") from None
        return cls(text, name, dimension, comparison, limit)

    def judge(self, figures: Mapping[str, float | None]) -> str | None:
        """Return what was found if the rule fires, which it also does for lack of samples."""
        found = figures[self.name]
        if found is None or math.isnan(found):
            return f"{self.text}: cannot tell, there were too few round trips"
        if not _OPERATORS[self.comparison](found, self.limit):
            return None
        if math.isinf(found):
            return f"{self.text}: {self.name} was lost: so many did not come back"
        shown = f"{found / self.dimension.divisor:.10g}{self.dimension.unit}"
        return f"{self.text}: {self.name} was {shown}"


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


def any_fired(rules: Sequence[Rule], figures: Mapping[str, float | None]) -> bool:
    """Report on standard error which rules fired, and return whether any did."""
    sentences = [found for rule in rules if (found := rule.judge(figures)) is not None]
    for sentence in sentences:
        fail(sentence)
    return bool(sentences)


def rules_about(table: Table) -> Option:
    """Return the option that takes rules about these figures."""
    return option(
        "--fail-if",
        Form("RULE", lambda text: Rule.parse(text, table)),
        "exit with 1 if this holds: a figure, one of > >= < <= == !=, and a limit, such as "
        "'p99>5ms'",
        repeatable=True,
        shown="none",
    )


def names_of(table: Table) -> str:
    """Return for help what rules can be about."""
    lines = [
        "Figures for --fail-if. A rule also fires if there are too few samples for its figure."
    ]
    for dimension in (TIME, SHARE, RATE, SIZE, COUNT):
        names = [name for name, found in table.items() if found is dimension]
        if names:
            lines.append(f"  {dimension.what}, such as {dimension.example}: {' '.join(names)}")
    return "\n".join(lines)
