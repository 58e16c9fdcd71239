"""A comparison as text: a table of figures for people, and what stands beside it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO, Final

from rich.table import Table
from rich.text import Text

from techo._comparing.comparison import Comparison, Verdict, endpoints_of
from techo._comparing.words import amount, change, in_words, interval, too_few
from techo._console import report_console
from techo._load.report import LoadReport
from techo._probing.text import fitted, number_of

_UNITS: Final = {"ns": "ms", "percent": "%", "per_second": "/s"}
"""In which figures are shown, by the unit that they have."""

_STYLES: Final = {Verdict.WORSE: "bold red", Verdict.BETTER: "green", Verdict.UNKNOWN: "yellow"}

_EXPLAINED: Final = (
    "An interval has the true change in it with a chance of 95 % or more. Where nothing",
    "has changed, such a table shows a change all the same in at most 5 of 100.",
)


def text_of(comparison: Comparison) -> str:
    """Return all of it, without colours."""
    file = io.StringIO()
    show(comparison, file, colours=False)
    return file.getvalue().rstrip("\n")


def show(comparison: Comparison, file: IO[str], *, colours: bool) -> None:
    """Print all of it, in as many columns as it takes; with colours if `file` has them."""
    console = report_console(file, colours=colours)
    for line in _sides(comparison):
        console.print(line, soft_wrap=True)
    console.print()
    with console.capture() as capture:
        console.print(_table(comparison))
    file.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    if remarks := [*fitted(_remarks(comparison)), *_explained(comparison)]:
        console.print()
        console.print(*remarks, sep="\n", soft_wrap=True)


def _sides(comparison: Comparison) -> Iterator[str]:
    for name, runs in (("before:", comparison.before), ("after:", comparison.after)):
        where = ", ".join(endpoints_of(runs))
        trips = number_of(sum(each.received for each in runs), "round trip")
        yield f"{name:7} {number_of(len(runs), 'run')} of {where}, {trips}"
    runs = [*comparison.before, *comparison.after]
    connections = _range([each.connections for each in runs])
    yield f"{connections} connections x {number_of(runs[0].size, 'byte')}, {_kind(runs)}"


def _range(numbers: Sequence[float]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least:,.10g}" if least == most else f"{least:,.10g} to {most:,.10g}"


def _kind(runs: Sequence[LoadReport]) -> str:
    rates = [each.rate for each in runs if each.rate is not None]
    return f"{_range(rates)} trips/s wanted: response time" if rates else "service time"


def _table(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("before", "after", "change"):
        table.add_column(name, justify="right")
    for name in ("interval", "verdict"):
        table.add_column(name)
    for figure in comparison.figures.values():
        verdict = Text(in_words(figure), style=_STYLES.get(figure.verdict, ""))
        table.add_row(
            f"{figure.name} {_UNITS[figure.unit]}",
            amount(figure, figure.before),
            amount(figure, figure.after),
            change(figure),
            interval(figure),
            verdict,
        )
    return table


def _remarks(comparison: Comparison) -> Iterator[str]:
    if comparison.enough:
        reasons = dict[str, list[str]]()
        for figure in comparison.figures.values():
            if figure.reason:
                reasons.setdefault(figure.reason, []).append(figure.name)
        for reason, names in reasons.items():
            yield f"{', '.join(names)}: cannot tell, {reason}"
    else:
        yield too_few(comparison)
    yield from comparison.notes


def _explained(comparison: Comparison) -> Sequence[str]:
    """Return how sure the intervals are, as lines, if there is one."""
    some = any(each.low is not None for each in comparison.figures.values())
    return _EXPLAINED if some else ()
