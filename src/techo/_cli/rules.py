"""The option --fail-if, and what is said of the rules that fired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from techo._cli.errors import fail
from techo._cli.options import Option, option
from techo._cli.readers import Form
from techo._rules import Rule, Table, listed


def any_fired(rules: Sequence[Rule], figures: Mapping[str, float | None]) -> bool:
    """Report on standard error which rules fired, and return whether any did."""
    sentences = [found for rule in rules if (found := rule.judge(figures)) is not None]
    for sentence in sentences:
        fail(sentence)
    return bool(sentences)


def rules_about(
    table: Table,
    written: str = "a figure, one of > >= < <= == !=, and a limit, such as 'p99>5ms'",
) -> Option:
    """Return the option that takes rules about these figures, which are `written` so."""
    return option(
        "--fail-if",
        Form("RULE", lambda text: Rule.parse(text, table)),
        f"exit with 1 if this holds: {written}",
        repeatable=True,
        shown="none",
    )


def names_of(
    table: Table,
    otherwise: str = "A rule also fires if there are too few samples for its figure.",
) -> str:
    """Return for help what rules can be about, and what else there is to know of them."""
    lines = [f"Figures for --fail-if. {otherwise}"]
    for dimension, names in listed(table):
        lines.append(f"  {dimension.what}, such as {dimension.example}: {' '.join(names)}")
    return "\n".join(lines)
