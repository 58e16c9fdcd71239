"""Rules: what --fail-if takes, and whether a measurement breaks it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Self

import attrs

from techo._cli.errors import fail
from techo._cli.figures import ALSO_CALLED, LOAD, NEAR, PING, Dimension, Table, listed
from techo._cli.options import Option, option
from techo._cli.readers import Form
from techo._printable import quoted

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
            return f"{self.text}: cannot tell, {self.dimension.missing}"
        if not _OPERATORS[self.comparison](found, self.limit):
            return None
        if math.isinf(found):
            return f"{self.text}: {self.name} was lost: so many did not come back"
        shown = f"{found / self.dimension.divisor:.10g}{self.dimension.unit}"
        return f"{self.text}: {self.name} was {shown}"


def _hint(name: str, table: Table) -> str:
    if name in PING or name in LOAD:
        return f"only {'ping has' if name in PING else 'load and merge have'} it"
    import difflib  # only a mistake needs it

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
    for dimension, names in listed(table):
        lines.append(f"  {dimension.what}, such as {dimension.example}: {' '.join(names)}")
    return "\n".join(lines)
