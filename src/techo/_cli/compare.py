"""The compare command: what has changed between two sides of runs, and what is chance."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from techo._cli.errors import fail, refuse
from techo._cli.objects import OBJECT_OPTIONS, taking_objects
from techo._cli.options import Command, option
from techo._cli.output import writing
from techo._cli.plot_sides import plot_sides
from techo._cli.readers import FILE
from techo._cli.report import check_can_draw, draw, picture_option
from techo._cli.report_files import check_different, read_reports
from techo._cli.rules import names_of, rules_about
from techo._rules import COMPARE, Rule

if TYPE_CHECKING:
    from techo._comparing.comparison import Comparison
    from techo._load.report import LoadReport

_DESCRIPTION = """\
The runs are what techo load has written with --output, five or more on each side. Take them in
turns, one before, one after, so that whatever else changes meanwhile is on both sides. For each
figure there is the change, the interval that it is likely to be in, and whether a change is
shown or could be chance."""

_EXAMPLES: Final = (
    ("techo compare --before old*.json --after new*.json", "a file for each run"),
    ("techo compare old.json new.json", "each with several runs"),
    ("techo compare old.json new.json --fail-if 'p99>+10%'", "exit with 1 if p99 grew so much"),
)

_EXITS: Final = (
    ("0", "it was compared, and no rule fired"),
    ("1", "a rule fired, or something could not be written"),
    ("2", "fewer than five runs on a side, runs that cannot be compared, or wrong usage"),
)

_FIRES: Final = "A rule fires if a change is shown and beyond the limit, or if it is unknown."

_NOTES = f"""\
{names_of(COMPARE, _FIRES)}
  p99>+10% is a tenth more than it was. loss>+0.1% is a difference: from 0.2 % to 0.3 %.
  Times are response times where there is a rate, otherwise service times.

A file may have several runs, one on each line; - is standard input. Each run counts once,
whatever its length. Messages of different sizes are refused, and so are runs with a rate beside
runs without; other differences are only named. Where nothing has changed, a comparison shows a
change all the same in at most 5 of 100 cases, all figures together."""

_OPTIONS: Final = [
    option(
        "files",
        FILE,
        "the runs before, and those after: two files, unless the options name them",
        repeatable=True,
        shown="",
        named="",
    ),
    option(
        "--before", FILE, "files of runs before", several=True, shown="the first file", named=""
    ),
    option(
        "--after", FILE, "files of runs after", several=True, shown="the second file", named=""
    ),
    *OBJECT_OPTIONS,
    picture_option("the percentiles of both sides there, and of each run"),
    rules_about(COMPARE, "a figure, > or <, and a change, such as 'p99>+10%' or 'rate<-5%'"),
]


def compare(options: argparse.Namespace) -> int:
    """Read all runs, compare them, and return the exit code."""
    from techo._comparing import compare as comparing

    try:
        check_can_draw(options)
        comparison = comparing.compare(*_read(options))
    except ValueError as error:
        return refuse(str(error))
    return _deliver(comparison, options)


def _read(options: argparse.Namespace) -> list[list[LoadReport]]:
    """Read the runs before, and those after.

    Raises:
        ValueError: files are missing, or one cannot be read; the text says which.
    """
    sides = _sides(options)
    check_different(name for names in sides for name in names)
    return [[run for name in names for run in read_reports(name)] for names in sides]


def _sides(options: argparse.Namespace) -> list[Sequence[str]]:
    files, sides = options.files, [options.before, options.after]
    if all(sides) and not files:
        return sides
    if len(files) == len(sides) and not any(sides):
        return [[name] for name in files]
    raise ValueError(
        "compare needs two sides: techo compare BEFORE AFTER, or --before FILE... --after "
        "FILE..., with what techo load --output has written"
    )


def _deliver(comparison: Comparison, options: argparse.Namespace) -> int:
    # Files first: standard output may be gone, and must not cost what was to be kept.
    drawn = draw(options.plot, lambda path: plot_sides(comparison, path))
    with taking_objects(options.output, printed=options.json) as objects:
        objects.put(comparison.to_json())
    if not options.json:
        from techo._comparing.text import show

        with writing():
            show(comparison, sys.stdout, colours=True)
            sys.stdout.flush()
    return _verdict(comparison, options.fail_if) or (0 if drawn and objects.complete else 1)


def _verdict(comparison: Comparison, rules: Sequence[Rule]) -> int:
    """Report what was bad, if anything was, and return the exit code."""
    from techo._comparing.words import too_few

    if not comparison.enough:
        return refuse(too_few(comparison))
    # A change that is not shown is none, however large it looks.
    figures = {
        name: None if each.change is None else each.change if each.shown else 0.0
        for name, each in comparison.figures.items()
    }
    fired = 0
    for rule in rules:
        found = rule.judge(figures)
        if rule.holds(figures) is None:
            found = f"{rule.text}: cannot tell, {comparison.figures[rule.name].reason}"
        if found is not None:
            fired = fail(found)
    return fired


COMMAND: Final = Command(
    "compare",
    "compare [OPTION]... {BEFORE AFTER | --before FILE... --after FILE...}",
    _DESCRIPTION,
    _OPTIONS,
    compare,
    variables="TECHO_PLOT=change.svg or TECHO_FAIL_IF='p99>+10%'",
    examples=_EXAMPLES,
    exits=_EXITS,
    chapters=("compare", "load", "json"),
    notes=_NOTES,
)
