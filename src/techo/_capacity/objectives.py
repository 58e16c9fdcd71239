"""Objectives: what must hold of a load, as in ``p99<5ms``, and how many trips show it."""

from __future__ import annotations

import collections
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from techo._figures import figures_of_load
from techo._load.report import LoadReport
from techo._printable import quoted
from techo._probing.histogram import Histogram, fewest
from techo._probing.text import counted, milliseconds, number_of
from techo._rules import CONNECT_TIME, SLO, TIME, Figures, Rule

_RIGHT: Final = {">": "<", ">=": "<=", "!=": "<="}
"""Comparisons that hold above a capacity rather than below, and what may have been meant."""

_TIMES: Final = {TIME, CONNECT_TIME}

NANOSECONDS: Final = 1_000_000_000

_GRACE: Final = 0.1
"""Seconds by which the last replies may be late on any machine, which shows nothing."""

_ALWAYS: Final = ("unsent==0", "reconnects==0", "outages==0")
"""What must hold unless an objective of the user's is about the same."""


def read_objective(text: str) -> Rule:
    """Read what must hold, such as ``p99<5ms``.

    Raises:
        ValueError: it is none, or nothing can hold it, or it would hold above a capacity and
            not below.
    """
    rule = Rule.parse(text, SLO)
    if rule.comparison in _RIGHT:
        right = text.replace(rule.comparison, _RIGHT[rule.comparison])
        raise ValueError(f"{quoted(text)}: an SLO is what must hold; did you mean {right}?")
    if rule.limit == 0 and (rule.comparison == "<" or rule.dimension in _TIMES):
        right = f"{rule.name}<{rule.dimension.example}"
        if rule.dimension not in _TIMES:
            right = f"{rule.name}==0"
        raise ValueError(f"{quoted(text)}: no server can do that; did you mean {right}?")
    return rule


@attrs.frozen
class Missed:
    """Something that did not hold."""

    rule: Rule | None
    """None for what has no rule."""
    found: str
    """What was found instead, for people."""

    def __str__(self) -> str:
        return self.found if self.rule is None else f"{self.rule.text} ({self.found})"


@attrs.frozen
class Objectives:
    """All that must hold of a load at a rate."""

    given: tuple[Rule, ...]
    """What the user has asked for."""
    always: tuple[Rule, ...]
    """What nobody has to ask for."""
    precision: float
    """How much more than is asked for a load may take, as a share of it."""

    @classmethod
    def of(cls, texts: Iterable[str], precision: float) -> Objectives:
        """Read what must hold, and add what nobody has to ask for.

        Raises:
            ValueError: there is none, or one is wrong.
        """
        given = tuple(map(read_objective, texts))
        if not given:
            raise ValueError("there is no SLO: give what must hold, such as 'p99<5ms'")
        named = {rule.name for rule in given}
        rules = (Rule.parse(text, SLO) for text in _ALWAYS)
        always = tuple(rule for rule in rules if rule.name not in named)
        return cls(given, always, precision)

    def trips(self, reconnect_every: int | None) -> int:
        """Return how many trips are needed for all figures to mean something.

        Raises:
            ValueError: a figure is about connecting, and no connection is opened meanwhile.
        """
        return max(_needed(each, reconnect_every) for each in self.given)

    @property
    def longest(self) -> float:
        """The most that something may take, in seconds; 0 if no time has a limit."""
        times = (each.limit for each in self.given if each.dimension is TIME)
        return max(times, default=0) / NANOSECONDS

    def missed(
        self, report: LoadReport, due: int, hopeless: Sequence[Missed] = ()
    ) -> list[Missed]:
        """Return what did not hold of a load of so many trips, or is not known to have held.

        Trips that could not be sent count as lost, unless a load was ended early because it
        was `hopeless`: then nobody knows what would have become of them, nor what figures with
        too few trips would have been.
        """
        if hopeless:
            report = attrs.evolve(report, unsent=0)
        figures = figures_of_load(attrs.evolve(report, lost=report.lost + report.unsent))
        known = {each.rule: each for each in hopeless}
        found = []
        for rule in (*self.given, *self.always):
            holds = rule.holds(figures)
            if holds is None and hopeless:
                found += [known[rule]] if rule in known else []
            elif not holds:
                found.append(Missed(rule, _in_words("was", rule, figures)))
        return [*found, *self._others(report, due)] or list(hopeless)

    def hopeless(self, report: LoadReport, due: int) -> list[Missed]:
        """Return what cannot hold any more, however good the rest of the trips is.

        Of those that are `due` in all, the rest may still come back at once.
        """
        rest = max(0, due - report.received - report.lost)
        figures: Figures = figures_of_load(
            attrs.evolve(
                report,
                received=report.received + rest,
                unsent=0,
                service=_with_instant(report.service, rest),
                response=None
                if report.response is None
                else _with_instant(report.response, rest),
            )
        )
        found = [
            Missed(rule, _in_words("at least", rule, figures))
            for rule in (*self.given, *self.always)
            if not _is_about_connecting(rule) and rule.holds(figures) is False
        ]
        return [*found, *self._others(report, due)]

    def _others(self, report: LoadReport, due: int) -> Iterator[Missed]:
        """Yield what else went wrong: attempts to connect, and what was done too slowly."""
        others = report.failed - report.lost
        if others > 0 and not any(rule.name == "failures" for rule in self.given):
            what = number_of(others, "failure")
            yield Missed(None, f"{what} beside lost trips ({counted(report.failures)})")
        if report.rate is not None:
            asked = due / report.rate
            if _behind(report, asked) > self._allowed(report, asked):
                took = f"took {report.seconds:.2f} s for what was due in {asked:.2f} s"
                yield Missed(None, f"it fell behind: {took}")

    def _allowed(self, report: LoadReport, asked: float) -> float:
        """Return how many seconds the last reply may come after the last trip was due.

        A server that answers all in the end, but is asked for more than it can do, needs more
        the longer it is asked.
        """
        trip = 2 * (report.service.mean or 0) / NANOSECONDS
        return max(self.precision * asked, _GRACE) + max(self.longest, trip)


def _behind(report: LoadReport, asked: float) -> float:
    """Return how many seconds after the last trip was due the last reply came, at the most.

    A load that waits for a lost trip lasts until its timeout, whatever the server does.
    """
    behind = report.seconds - asked
    if not report.lost:
        return behind
    return min(behind, (report.latency.max or 0) / NANOSECONDS)


def _in_words(verb: str, rule: Rule, figures: Figures) -> str:
    found = figures[rule.name]
    if found is None or math.isnan(found):
        return rule.dimension.missing
    if math.isinf(found):
        return "so many were lost"
    if rule.dimension in _TIMES:
        return f"{verb} {milliseconds(found)} ms"
    return f"{verb} {found:,.4g}{rule.dimension.unit}"


def percent_of(rule: Rule) -> float | None:
    """Return which percentile a rule is about; None for another figure."""
    found = re.fullmatch(r"(?:connect\.)?p([0-9.]+)", rule.name)
    return None if found is None else float(found[1])


def _is_about_connecting(rule: Rule) -> bool:
    return rule.dimension is CONNECT_TIME


def _needed(rule: Rule, reconnect_every: int | None) -> int:
    """Return how many trips show whether a rule holds."""
    each = 1
    if _is_about_connecting(rule):
        if reconnect_every is None:
            raise ValueError(
                f"{quoted(rule.text)}: connections stay open; have them replaced, with "
                "reconnect_every 1 for example"
            )
        each = reconnect_every
    percent = percent_of(rule)
    if percent is not None:
        return each * fewest(percent)
    if rule.name == "loss" and rule.limit > 0:
        return math.ceil(round(100 / rule.limit, 6))  # of fewer, one would be too much
    return 1


def _with_instant(histogram: Histogram, count: int) -> Histogram:
    """Return a histogram with so many more that took no time at all."""
    found = histogram.copy()
    found.add(Histogram(collections.Counter({0: count}), count))
    return found
